"""Takes this host out of its balancers, or puts it back:
`host_drain.py on|off|leave APP RUN SECONDS WHY [HOLDER [KILLED]]`.

`on` takes the app's lease for at most SECONDS, so that no deploy changes the host meanwhile, writes down
who works on it, and says drain; the flag also outlives a reboot. `off` puts the host back and returns the
lease; `leave` returns the lease and keeps the host out. A host that somebody else had drained stays
drained. The leases of the runs KILLED, separated by commas, are nobody's any more.
Standard library only: it runs on the host. Prints one JSON object; exit 1 with the reason on stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FLAG = Path("/run/backline/drain")
MARK = Path("/var/lib/backline/upkeep")
AFTER_BOOT = Path("/etc/tmpfiles.d/backline-drain.conf")


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
        sys.exit(f"hostctl {verb}: {said}. {error.get('hint', '')}")
    return answer


def ours(run: str) -> bool:
    """True when the host is drained by a run of this kind, such as patch-…, this one or an earlier."""
    return FLAG.exists() and FLAG.read_text().startswith(run.partition("-")[0] + "-")


def main(
    action: str,
    app: str,
    run: str,
    seconds: str,
    why: str,
    holder: str = "ansible",
    killed: str = "",
) -> dict[str, object]:
    who = {"app": app, "run": run, "actor": holder, "message": why}
    seen = hostctl("lease", app=app, action="show")
    lease = seen["lease"]
    if lease and lease["run"] in killed.split(",") and lease["holder"] == holder:
        free = {**who, "run": lease["run"], "message": f"it was killed, {run} goes on"}
        hostctl("lease", **free, token=lease["token"], action="release")
        seen, lease = hostctl("lease", app=app, action="show"), None
    if action == "leave" and not (lease and lease["run"] == run):
        return {"drained": FLAG.exists()}
    token = lease["token"] if lease and lease["run"] == run else seen["fence"] + 1
    hostctl("lease", **who, token=token, action="take", holder=holder, lifetime=int(seconds))
    # As upkeep_mark.py does where there is no lease.
    if action == "on" and run.startswith("patch-"):
        MARK.write_text(f"{run}\n")
        MARK.chmod(0o644)
    if action == "on" and not FLAG.exists():
        hostctl("drain", **who, token=token, action="on")
    # A run that was killed may have left the flag alone.
    if action == "on" and ours(run) and not AFTER_BOOT.exists():
        AFTER_BOOT.write_text(
            "# Drained by an Ansible run, until that run is over.\n"
            f"d /run/backline 0755 root root -\nf {FLAG} 0644 root root - {run}\n"
        )
    if action == "off" and ours(run):
        AFTER_BOOT.unlink(missing_ok=True)
        hostctl("drain", **who, token=token, action="off")
    if action != "on":
        hostctl("lease", **who, token=token, action="release")
    return {"drained": FLAG.exists()}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
