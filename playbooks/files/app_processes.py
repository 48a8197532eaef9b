"""The live processes of an app on this host: `app_processes.py ACTION APP SECONDS`.

ACTION is stop-workers, start, restart, forget or check.

`restart` also takes releases that are kept warm, so that all of them read their settings again.
`forget` has systemd forget that any of them failed: it has given them up, and would refuse to start them.
`stop-workers` lets worker pools finish their jobs and stops them; `start` starts whatever is live and
does not run; start, restart and check end when all of it is healthy. Pools that rested before
stop-workers, since somebody stopped them or a deploy left the host behind, rest on, unless it boots.
A host without the app, or without a release yet, has nothing to do. Standard library only: it runs on
the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FLAG = Path("/run/backline/drain")
RESTING = Path("/run/backline/resting")  # gone with a reboot, which starts pools anyway


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


def units(app: str) -> list[dict]:
    """What is live here: [{process, kind, release, unit, rests}]."""
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
                    # One that failed is told of as well, and one that is about to start.
                    "rests": not any(
                        one["release"] == process["live"] and one["active"] != "deactivating"
                        for one in process["instances"]
                    ),
                }
            )
    return found


def resting() -> dict:
    return json.loads(RESTING.read_text()) if RESTING.exists() else {"drained": "", "pools": []}


def remember(pools: list[dict]) -> None:
    """Writes down which pools rest. Where a run of the same drain ended half way, only what rested then."""
    drained, rest = FLAG.read_text(), {pool["process"] for pool in pools if pool["rests"]}
    if RESTING.exists() and resting()["drained"] == drained:
        rest &= set(resting()["pools"])
    RESTING.write_text(json.dumps({"drained": drained, "pools": sorted(rest)}))


def main(action: str, app: str, seconds: str) -> list[str]:
    mine = units(app)
    if action == "stop-workers":
        mine = [entry for entry in mine if entry["kind"] != "http"]
        # Stops one after the other would add up their patience.
        if mine:
            remember(mine)
            subprocess.run(["systemctl", "stop", *(entry["unit"] for entry in mine)], check=True)
        return [entry["unit"] for entry in mine]
    mine = [entry for entry in mine if entry["process"] not in resting()["pools"]]
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
    RESTING.unlink(missing_ok=True)
    return [entry["unit"] for entry in mine]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
