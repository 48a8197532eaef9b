"""One job at a time: a backup that ends may expire the one that a drill is restoring."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BackupError


@contextmanager
def alone(folder: Path, seconds: float) -> Iterator[None]:
    """Waits up to `seconds` until no other job of this host is at work. Raises BackupError."""
    deadline = time.monotonic() + seconds
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BackupError(
                        f"another job is still at work after {seconds:.0f} s"
                    ) from None
                time.sleep(0.5)
        yield
