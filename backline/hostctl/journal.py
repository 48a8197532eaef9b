"""The host's journal: one JSON line per change, each carrying the hash of the line before it.

An edited, dropped or reordered line breaks the chain. A line torn by a power cut stays where it
is: the next line is a `journal.recovered` record that names the torn bytes by their digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from . import files
from .host import Host

NO_PREDECESSOR = "0" * 64
TAIL_BYTES = 256 * 1024


class Tail(NamedTuple):
    """The end of a journal: the last whole record and the damaged bytes after it."""

    seq: int
    hash: str
    torn: bytes


class Verdict(NamedTuple):
    """What reading a journal found: its whole records, and what is wrong with it, if anything."""

    entries: list[dict[str, object]]
    problem: str | None


def digest(entry: Mapping[str, object]) -> str:
    """The hash of a record: SHA-256 of its canonical JSON without the field `hash`."""
    bare = {key: value for key, value in entry.items() if key != "hash"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def path(host: Host, app: str) -> Path:
    """Where the journal of `app` is."""
    return host.state(app) / "journal.jsonl"


def append(host: Host, app: str, entry: Mapping[str, object]) -> None:
    """Append one record, durably. The caller holds the app's lock."""
    target = path(host, app)
    tail = read_tail(target)
    lines = b""
    whole = _parse(tail.torn) if tail.torn else None
    if whole is not None:  # it lacks nothing but its end
        lines, tail = b"\n", Tail(_seq(whole), str(whole["hash"]), b"")
    elif tail.torn:
        recovered = {
            "at": host.wall(),
            "verb": "journal.recovered",
            "torn_bytes": len(tail.torn),
            "torn_sha256": hashlib.sha256(tail.torn).hexdigest(),
        }
        line, tail = _link(recovered, tail)
        lines = b"\n" + line
    line, _ = _link({"at": host.wall(), **entry}, tail)
    files.append(target, lines + line)


def _link(entry: Mapping[str, object], tail: Tail) -> tuple[bytes, Tail]:
    whole = {"seq": tail.seq + 1, **entry, "prev": tail.hash}
    whole["hash"] = digest(whole)
    line = json.dumps(whole, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
    return line, Tail(tail.seq + 1, str(whole["hash"]), b"")


def read_tail(target: Path) -> Tail:
    """The last whole record of a journal, looking no further back than 256 KiB."""
    try:
        with target.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            chunk = file.read()
    except FileNotFoundError:
        return Tail(0, NO_PREDECESSOR, b"")
    end = len(chunk)
    while end > 0:
        newline = chunk.rfind(b"\n", 0, end)
        if newline < 0:
            break
        start = chunk.rfind(b"\n", 0, newline) + 1
        entry = _parse(chunk[start:newline])
        if entry is not None:
            return Tail(_seq(entry), str(entry["hash"]), chunk[newline + 1 :])
        end = newline
    return Tail(0, NO_PREDECESSOR, chunk)


def newest(host: Host, app: str, *words: str) -> Iterator[dict[str, object]]:
    """The records that hold all `words`, newest first, looking no further back than 256 KiB."""
    try:
        with path(host, app).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return
    for line in reversed(lines):
        entry = _parse(line) if all(word.encode() in line for word in words) else None
        if entry is not None:
            yield entry


def _parse(line: bytes) -> dict[str, object] | None:
    """The record on a line, or None when it is not one or its own hash is wrong."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get("hash") != digest(entry):
        return None
    return entry


def _seq(entry: Mapping[str, object]) -> int:
    seq = entry.get("seq")
    return seq if isinstance(seq, int) else 0


def verify(data: bytes) -> Verdict:
    """Check a whole journal: every hash, every link, every number.

    Damaged bytes are accepted only right before the record that accounts for them.
    """
    entries: list[dict[str, object]] = []
    last = Tail(0, NO_PREDECESSOR, b"")
    damaged = b""
    for number, line in _lines(data):
        entry = _parse(line.rstrip(b"\n")) if line.endswith(b"\n") else None
        if entry is None:
            damaged += line
            continue
        if damaged and not _accounts_for(entry, damaged):
            return Verdict(entries, f"line {number - 1} is damaged or was edited")
        damaged = b""
        if entry.get("prev") != last.hash or entry.get("seq") != last.seq + 1:
            return Verdict(entries, f"line {number} does not follow the one before it")
        last = Tail(_seq(entry), str(entry["hash"]), b"")
        entries.append(entry)
    return Verdict(entries, "the last line is torn or was edited" if damaged else None)


def _accounts_for(entry: Mapping[str, object], damaged: bytes) -> bool:
    """True when `entry` is the recovery record of `damaged` (less the newline put after it)."""
    if entry.get("verb") != "journal.recovered":
        return False
    return entry.get("torn_sha256") in (
        hashlib.sha256(damaged).hexdigest(),
        hashlib.sha256(damaged[:-1]).hexdigest(),
    )


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    return enumerate(data.splitlines(keepends=True), start=1)


def announce(host: Host, message: str, fields: Mapping[str, object], priority: int = 6) -> None:
    """Write a structured entry to journald, best effort: a deploy never waits for a log."""
    pairs = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "hostctl"}
    named = {f"BACKLINE_{key.upper()}": value for key, value in fields.items()}
    payload = b"".join(
        _field(key, str(value))
        for key, value in {**pairs, **named}.items()
        if value is not None and not isinstance(value, (dict, list))
    )
    address = str(host.path("/run/systemd/journal/socket"))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(payload, address)
    except OSError:
        pass


def _field(key: str, value: str) -> bytes:
    """One field in journald's native protocol; the length form, so that a value may be anything."""
    raw = value.encode("utf-8", "replace")
    return key.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
