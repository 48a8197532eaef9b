"""Long jobs and a scheduler for test_workers.py; releases.py copies this file as jukebox/jobs.py.

Every line that they write says what happens, when, in which release, and by which process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

SHARED = Path("/srv/jukebox/shared")
EVERY = 0.1
LAST_SECONDS = 1.0


def say(file: str, what: str) -> None:
    """One line, whole, whoever else writes."""
    line = f"{time.time():.3f} {os.environ.get('BACKLINE_RELEASE')} {os.getpid()} {what}\n"
    with (SHARED / file).open("a") as out:
        out.write(line)


def declare(app: Any) -> None:
    """The job: `music.nap(seconds, name)`."""

    @app.task(name="music.nap")
    def nap(seconds: float, name: str) -> None:
        say("naps", f"begin {name}")
        time.sleep(seconds)
        say("naps", f"end {name}")


def ticks() -> None:
    """The scheduler: a tick every tenth of a second, and some more while it ends."""

    def end(number: int, frame: FrameType | None) -> None:
        until = time.monotonic() + LAST_SECONDS
        while time.monotonic() < until:
            say("ticks", "last")
            time.sleep(EVERY)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        say("ticks", "tick")
        time.sleep(EVERY)


if __name__ == "__main__":
    ticks()
