"""The live processes of an app on this host: `app_processes.py ACTION APP SECONDS`.

ACTION is stop-workers, start, restart, forget or check.

`restart` also takes releases that are kept warm, so that all of them read their settings again.
`forget` has systemd forget that any of them failed: it has given them up, and would refuse to start them.
`stop-workers` lets worker pools finish their jobs and stops them; `start` starts whatever is live and
does not run; start, restart and check end when all of it is healthy. A host without the app, or
without a release yet, has nothing to do. Standard library only: it runs on the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def hostctl(verb: str, **fields: object) -> dict:
    done = subprocess.run(
        ["/usr/local/bin/hostctl", verb],
        input=json.dumps(fields),
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout or "{}")
    if not answer.get("ok"):
        error = answer.get("error", {})
        said = error.get("message") or done.stderr.strip() or f"exit {done.returncode}"
        sys.exit(f"{said}. {error.get('hint', '')}")
    return answer


def units(app: str) -> list[dict[str, str]]:
    """What is live here: [{process, kind, release, unit}]."""
    if not Path(f"/etc/backline/apps/{app}/app.json").exists():
        return []
    found = []
    for name, process in hostctl("status", app=app)["processes"].items():
        described = Path(f"/etc/backline/apps/{app}/processes/{name}.json")
        if process["live"] and described.exists():
            unit = json.loads(described.read_text())["unit"]
            found.append(
                {
                    "process": name,
                    "kind": process["kind"],
                    "release": process["live"],
                    "unit": unit.replace("@.service", f"@{process['live']}.service"),
                }
            )
    return found


def main(action: str, app: str, seconds: str) -> list[str]:
    mine = units(app)
    if action == "stop-workers":
        mine = [entry for entry in mine if entry["kind"] != "http"]
        # Stops one after the other would add up their patience.
        if mine:
            subprocess.run(["systemctl", "stop", *(entry["unit"] for entry in mine)], check=True)
        return [entry["unit"] for entry in mine]
    # The instances of all releases.
    names = [entry["unit"].partition("@")[0] + "@*.service" for entry in mine]
    if action == "forget":
        if mine:
            subprocess.run(["systemctl", "reset-failed", *names], check=True)
        return names
    if action == "restart" and mine:
        # Only what runs.
        subprocess.run(["systemctl", "try-restart", *names], check=True)
    if action in ("start", "restart") and mine:
        subprocess.run(["systemctl", "start", *(entry["unit"] for entry in mine)], check=True)
    for entry in mine:
        hostctl(
            "check",
            app=app,
            process=entry["process"],
            release=entry["release"],
            passes=3,
            interval=1,
            deadline=float(seconds),
        )
    return [entry["unit"] for entry in mine]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
