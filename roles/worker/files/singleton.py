"""Starts a singleton that this host should run: `singleton.py APP PROCESS`, standard library only.

It is started in the release that is live here, through hostctl and under the app's lease, so that a
deploy knows of it. Nothing is done without a live release, when the release has no such process, on
a drained host, or when it runs. Prints what was done; exit 1 with the reason on stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOLD = 120  # seconds that the lease is taken for


def hostctl(verb: str, **fields: object) -> dict[str, Any]:
    """One verb; ends the program with hostctl's own words when it is refused."""
    done = subprocess.run(
        ["/usr/local/bin/hostctl", verb],
        input=json.dumps(fields),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if not answer.get("ok"):
        error = answer.get("error", {})
        said = error.get("message") or done.stderr.strip() or f"exit {done.returncode}"
        sys.exit(f"hostctl {verb}: {said}. {error.get('hint', '')}")
    return answer


def runs(unit: str) -> bool:
    """Whether an instance of the unit, of any release, is up or on its way."""
    states = "--state=active,activating,reloading,deactivating"
    argv = ["systemctl", "list-units", "--plain", "--no-legend", states, unit.replace("@", "@*")]
    return bool(subprocess.run(argv, capture_output=True, check=True).stdout.strip())


def main(app: str, process: str) -> str:
    """Decides and starts."""
    current = Path(f"/srv/{app}/current")
    described = json.loads(Path(f"/etc/backline/apps/{app}/processes/{process}.json").read_text())
    if not current.exists() or Path("/run/backline/drain").exists() or runs(described["unit"]):
        return "nothing to do"
    release = current.resolve().name
    manifest = json.loads((current / "release.json").read_text())
    if described["process"] not in manifest.get("processes", {}):
        return f"release {release} has no {described['process']}"
    run = time.strftime("singleton-%Y%m%dT%H%M%SZ", time.gmtime())
    who = {"app": app, "run": run, "actor": "ansible", "message": f"{process} belongs here"}
    who["token"] = hostctl("lease", app=app, action="show")["fence"] + 1
    hostctl("lease", **who, action="take", holder="ansible", lifetime=HOLD)
    try:
        hostctl("start", **who, process=process, release=release)
        hostctl("switch", **who, process=process, release=release)
    finally:
        hostctl("lease", **who, action="release")
    return f"started {process} of {release}"


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
