"""Asks pgBackRest what is in the repository."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import pgbackrest, wal
from .errors import CommandError
from .supervise import last_words

Stream = Callable[[Sequence[str]], str]
SECONDS = 300


def look(stanza: str, beside: bool = False) -> pgbackrest.Info:
    """Backups and archive. Raises CommandError or BackupError when nobody can read them."""
    return pgbackrest.parse_info(
        ask(pgbackrest.command(stanza, "info", "--output=json", beside=beside)), stanza
    )


def archive(
    stanza: str, info: pgbackrest.Info, beside: bool = False
) -> dict[str, Mapping[str, Any]]:
    """The archive's files, by their paths inside of it."""
    if not info.archive:
        return {}
    return pgbackrest.parse_files(ask(pgbackrest.list_archive(stanza, info.archive, beside=beside)))


def missing_wal(stanza: str, info: pgbackrest.Info, segment_mb: int) -> list[str]:
    """What is missing from the newest backup on: nothing can be recovered across it."""
    newest = info.newest()
    if newest is None:
        return []
    names = wal.archived(archive(stanza, info))
    found = wal.gaps(names, newest.wal_start, newest.wal_stop, segment_mb)
    return pgbackrest.gap_names(found, segment_mb)


def ask(argv: Sequence[str]) -> str:
    """What the program writes to stdout; only its errors are shown. Raises CommandError."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if done.returncode:
        said = done.stdout + done.stderr
        raise CommandError(last_words(argv, said), done.returncode, said)
    return done.stdout


def stream(argv: Sequence[str]) -> str:
    """Runs a program whose words go to the journal as they come. Returns them; raises CommandError."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    output = "".join(lines)
    if process.wait():
        raise CommandError(last_words(argv, output), process.returncode, output)
    return output


def bytes_stored(files: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(int(entry.get("size", 0)) for entry in files.values())


def newest_archived(files: Mapping[str, Mapping[str, Any]]) -> float:
    """When the last whole segment came in, seconds since the epoch; 0 for never."""
    whole = [entry["time"] for path, entry in files.items() if wal.archived([path])]
    return float(max(whole, default=0))


def now() -> float:
    return time.time()
