#!/usr/bin/python3
"""Stands in for hostctl and a worker: a child works on jobs of two seconds until its parent stops.

The parent waits for the job on SIGTERM; the child takes SIGTERM as death, as Celery's do.
Of hostctl's other verbs, `start` starts a unit, the rest say yes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

if sys.argv[1] != "exec":
    asked = json.load(sys.stdin)
    if sys.argv[1] == "start":
        unit = f"{asked['app']}-{asked['process']}@{asked['release']}.service"
        subprocess.run(["systemctl", "start", unit], check=True)
    print(json.dumps({"ok": True, "fence": 1, "lease": None}))
    sys.exit(0)

folder = Path(f"/srv/{sys.argv[3]}/shared/{sys.argv[5]}")
folder.mkdir(exist_ok=True)
(folder / "stopping").unlink(missing_ok=True)
(folder / "started").write_text(str(time.time()))
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
(folder / "ended").write_text(str(time.time()))
