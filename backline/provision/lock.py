"""Keeps two runs on the same environment from the same checkout apart.

The kernel holds the lock (flock) for as long as the process lives: a holder that died blocks nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backline.errors import BacklineError, Exit


@contextmanager
def held(folder: Path, env: str, actor: str, since: str) -> Iterator[None]:
    """Holds environment `env`'s lock; BacklineError (5) naming the holder when another has it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{env}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BacklineError(
                f"{env} is being provisioned already: {_holder(path)}",
                state="nothing was changed by this run",
                hint="wait for it to end, or end that process",
                exit_code=Exit.LEASE_HELD,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, json.dumps({"pid": os.getpid(), "actor": actor, "since": since}).encode(), 0
        )
        yield
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"by {told['actor']}, process {told['pid']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by a process that has not said its name yet"
