"""Runs other programs within limits of time and disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BackupError, CommandError

LOOK_SECONDS = 0.5
KEPT_LINES = 6


@dataclass(frozen=True)
class Limits:
    """`deadline`: on `clock`. `free_bytes` have to stay free where `folder` lies; 0 for no matter."""

    deadline: float
    folder: Path
    free_bytes: int = 0
    clock: Callable[[], float] = field(default=time.monotonic)

    def left(self) -> float:
        """Seconds that are left; never below 0."""
        return max(0.0, self.deadline - self.clock())

    def check(self) -> None:
        """Raises BackupError when time or room has run out."""
        if self.left() <= 0:
            raise BackupError("out of time", "backup_drill_timeout is how long it may take")
        free = shutil.disk_usage(self.folder).free
        if free < self.free_bytes:
            wanted = f"{mib(self.free_bytes)} have to stay free"
            raise BackupError(f"out of room: {mib(free)} are free at {self.folder}, {wanted}")


def mib(size: float) -> str:
    return f"{size / 1024**2:.0f} MiB"


def run(
    argv: Sequence[str | Path],
    limits: Limits,
    *,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
) -> str:
    """What the program wrote to stdout. Raises CommandError, which has stderr too, when it fails, and
    BackupError when a limit is reached; then it and its children have been killed.

    It runs in /: psql warns of a folder that it may not enter, such as the home of whoever called sudo.
    """
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        start_new_session=True,
        cwd="/",
    )
    try:
        output, errors = _wait(process, limits, stdin)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        output += errors
        raise CommandError(last_words(argv, output), process.returncode, output)
    return output


def _wait(process: subprocess.Popen[str], limits: Limits, stdin: str) -> tuple[str, str]:
    feed: str | None = stdin
    while True:
        limits.check()
        try:
            return process.communicate(feed, timeout=LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            feed = None  # communicate() goes on with what it was given first


def last_words(argv: Sequence[str | Path], output: str) -> str:
    """One line for a program that failed: its name and what it said last, errors before all else."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "FATAL" in line or "error:" in line]
    said = "; ".join((errors or lines)[-KEPT_LINES:])
    return f"{Path(argv[0]).name} failed: {said or 'it said nothing'}"
