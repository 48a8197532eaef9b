"""Says on a host who works on it: `upkeep_mark.py look|take|keep|leave|drop RUN [KILLED]`.

`look` ends with 1 while another run may be at work here, and tells whether one ended half way; `take` does
too, and writes RUN down. `keep` says that RUN still works, `leave` that it does no longer but has not come to
its end, `drop` that it has. A run may be at work for LONGEST after it last said so, unless it is among the
KILLED, separated by commas. Standard library only: it runs on the host. Prints one JSON object.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path

MARK = Path("/var/lib/backline/upkeep")
LONGEST = 4500
"""Seconds: no step takes longer, as downloads get an hour before a reboot."""


def main(action: str, run: str, killed: str = "") -> dict[str, str]:
    folder = os.open(MARK.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        return alone(action, run, killed)
    finally:
        os.close(folder)


def alone(action: str, run: str, killed: str) -> dict[str, str]:
    there = MARK.read_text().strip() if MARK.exists() else ""
    if action in ("look", "take"):
        ago = time.time() - MARK.stat().st_mtime if there else LONGEST
        if there not in (run, *killed.split(",")) and ago < LONGEST:
            sys.exit(
                f"{there} is at work here, or was killed: it last said so {ago / 60:.0f} minutes ago. "
                "Nothing was touched. What was killed is gone on with at once where it was typed, "
                f"elsewhere after {LONGEST // 60} minutes, or after `rm {MARK}` on this host."
            )
        if action == "take":
            MARK.write_text(f"{run}\n")
            MARK.chmod(0o644)
    elif there == run:
        if action == "drop":
            MARK.unlink()
        else:
            os.utime(MARK, None if action == "keep" else (0, 0))
    elif action == "keep":
        sys.exit(f"{there or 'nobody'} is at work here by now, says {MARK}: {run} goes no further")
    return {"left": there}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
