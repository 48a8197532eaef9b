#!/usr/bin/python3
"""Stands in for hostctl and a worker: a child works on jobs of two seconds until its parent stops.

The parent waits for the job on SIGTERM; the child takes SIGTERM as death, as Celery's do.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

folder = Path(f"/srv/{sys.argv[3]}/shared/{sys.argv[5]}")
folder.mkdir(exist_ok=True)
(folder / "environment").write_text("\n".join(f"{k}={v}" for k, v in os.environ.items()))

child = os.fork()
if child == 0:
    while not (folder / "stopping").exists():
        (folder / "began").write_text("")
        time.sleep(2)
        (folder / "done").write_text("")
    sys.exit(0)


def stop(*_: object) -> None:
    """No more jobs; wait for the one that runs."""
    (folder / "stopping").write_text("")


signal.signal(signal.SIGTERM, stop)
os.waitpid(child, 0)
