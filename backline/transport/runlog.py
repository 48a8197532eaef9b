"""A journal on the controller: one JSON line per event, each with the hash of the one before it.

The same chain as the hosts' journals (hostctl.journal): an edited, dropped or reordered line breaks
it, and a line torn by a power cut is accounted for by the next one. Only one process has it open.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from backline.errors import BacklineError, Exit
from backline.hostctl import journal as chain

CRASH = "BACKLINE_CRASH_AT"
"""For tests: the number of the event after which this process kills itself."""


class RunLog:
    """An open journal. `add` keeps an event in memory, `flush` makes all of them durable at once."""

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        """`patience`: seconds to wait for another process that has it open."""
        self.path = path
        new = not path.parent.exists()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if not self._lock(patience):
            os.close(self._file)
            raise BacklineError(
                f"another process on this machine is writing {path.name} of {path.parent.name}",
                state="nothing was changed",
                hint=f"that run is still going; who it is: fuser -v {path}",
                exit_code=Exit.LEASE_HELD,
            )
        if new:
            _sync_folder(path.parent.parent)
        _sync_folder(path.parent)
        tail = chain.read_tail(path)
        if tail.torn:  # a line that lacks nothing but its end is whole then
            os.write(self._file, b"\n")
            tail = chain.read_tail(path)
        self._seq, self._hash = tail.seq, tail.hash
        self._lines: list[bytes] = []
        self._crash_at = int(os.environ.get(CRASH) or 0) if path.stem == "journal" else 0
        if tail.torn:
            self._recover(tail.torn)

    def _lock(self, patience: float) -> bool:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def head(self) -> dict[str, Any]:
        """The number and hash of the last event."""
        return {"seq": self._seq, "hash": self._hash}

    def add(self, event: Mapping[str, Any]) -> None:
        """Appends an event; it is durable after the next `flush`."""
        self._seq += 1
        whole = {"seq": self._seq, **event, "prev": self._hash}
        whole["hash"] = self._hash = chain.digest(whole)
        self._lines.append(json.dumps(whole, separators=(",", ":")).encode() + b"\n")
        if self._seq == self._crash_at:
            self.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    def flush(self) -> None:
        """Makes durable what was added; costs nothing when nothing was."""
        if not self._lines:
            return
        data, self._lines = b"".join(self._lines), []
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)

    def close(self) -> None:
        """Flushes and lets go."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1

    def _recover(self, torn: bytes) -> None:
        self.add(
            {
                "verb": "journal.recovered",
                "torn_bytes": len(torn),
                "torn_sha256": hashlib.sha256(torn).hexdigest(),
            }
        )
        self.flush()


def read(path: Path) -> chain.Verdict:
    """A journal's events and what is wrong with its chain, if anything; empty when there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    return chain.verify(data)


def is_open(path: Path) -> bool:
    """Whether a process on this machine has the journal open."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
