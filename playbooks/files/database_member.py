"""This host as a member of the database cluster, while it is patched: `database_member.py ACTION …`.

spare [alone|follower] may this member go? Not while any other is ill, or etcd would lose its majority; a
                       member that is the only one, if `alone` is said; not if it leads among several, with
                       `follower`. Prints {leads, candidate, alone}.
restart-etcd [alone]   restarts etcd when every other member of it is healthy, and waits until it votes.
whole SECONDS [follower]   waits until all are in step; with `follower`, until somebody else leads.

Exit 1 with the reason on stderr. Standard library only: it runs on the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

LEADERS = ("leader", "standby_leader")
SYNC = ("sync_standby", "quorum_standby")
LAG_MOST = 1024 * 1024
"""In bytes: who is further behind than that is no spare, nor does hostctl hand over to it."""
EVERY = 1.0
ETCD_WITHIN = 60.0


def ask() -> dict[str, Any]:
    """What hostctl says of the cluster."""
    done = subprocess.run(
        ["/usr/local/bin/hostctl", "database"],
        input='{"action": "status"}',
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if not answer.get("ok"):
        error = answer.get("error", {})
        sys.exit(f"hostctl database: {error.get('message') or done.stderr.strip()}")
    return answer


def ill(status: dict[str, Any]) -> list[str]:
    """What is wrong with the cluster, this member included."""
    members = {member["name"]: member for member in status["members"]}
    found = [f"{name} is missing" for name in status["peers"] if name not in members]
    for name, member in members.items():
        good = "running" if member["role"] in LEADERS else "streaming"
        if member["state"] != good:
            found.append(f"{name} is {member['state']}")
    found += [f"etcd of {name}: {how}" for name, how in status["etcd"].items() if how != "healthy"]
    if not status.get("leader"):
        found.append("nobody leads")
    if status.get("paused"):
        found.append("the cluster is in maintenance")
    if status.get("trouble"):
        found.append(str(status["trouble"]))
    if status["pgbouncer"].get("paused") or status["pgbouncer"].get("following"):
        found.append("a switchover has not come to its end here")
    return found


def spare(status: dict[str, Any], outage: bool, follower: bool = False) -> dict[str, Any]:
    """Whether the cluster does without this member. Raises SystemExit."""
    alone = len(status["peers"]) == 1
    if alone and not outage:
        sys.exit(
            f"{status['name']} is the only database: writes would fail meanwhile. "
            "In a quiet hour: -e patch_outage=true"
        )
    wrong = ill(status)
    for member in status["members"]:
        lag = member.get("lag")
        other = member["role"] not in LEADERS and member["name"] != status["name"]
        if other and not (isinstance(lag, int) and lag <= LAG_MOST):
            wrong.append(f"{member['name']} is {lag} bytes behind")
    if wrong:
        sys.exit("with one member less there would be no spare: " + "; ".join(wrong))
    leads = status["leader"] == status["name"]
    if follower and leads and not alone:
        sys.exit("it leads by now: the same command has it hand over first")
    candidate = best(status) if leads and not alone else ""
    if leads and not alone and not candidate:
        sys.exit("this member leads, and no synchronous standby can take over")
    return {"leads": leads, "candidate": candidate, "alone": alone}


def best(status: dict[str, Any]) -> str:
    """Who takes over without a loss; empty for nobody."""
    standbys = [m for m in status["members"] if m["role"] not in LEADERS]
    if status.get("synchronous"):
        standbys = [m for m in standbys if m["role"] in SYNC]
    known = [m for m in standbys if isinstance(m.get("lag"), int)]
    return min(known, key=lambda m: (m["lag"], m["name"]))["name"] if known else ""


def behind(status: dict[str, Any], follower: bool) -> list[str]:
    """Why the cluster is not what it was before; nothing when it is."""
    found = ill(status)
    for member in status["members"]:
        if member["role"] not in LEADERS and member.get("lag") != 0:
            found.append(f"{member['name']} is {member.get('lag')} bytes behind")
    if status.get("synchronous") and not any(m["role"] in SYNC for m in status["members"]):
        found.append("there is no synchronous standby")
    if follower and status.get("leader") == status["name"]:
        found.append("it still leads")
    return found


def whole(seconds: float, follower: bool) -> None:
    deadline = time.monotonic() + seconds
    while why := behind(ask(), follower):
        if time.monotonic() > deadline:
            sys.exit(f"not whole after {seconds:g} s: {'; '.join(why)}")
        time.sleep(EVERY)


def restart_etcd(outage: bool) -> None:
    status = ask()
    mine = status["name"]
    others = {name: how for name, how in status["etcd"].items() if name != mine}
    away = [f"{name}: {how}" for name, how in others.items() if how != "healthy"]
    if away or (not others and not outage):
        sys.exit(f"etcd stays as it is, its majority would be lost: {'; '.join(away) or 'alone'}")
    subprocess.run(["systemctl", "restart", "etcd.service"], check=True)
    deadline = time.monotonic() + ETCD_WITHIN
    while ask()["etcd"][mine] != "healthy":
        if time.monotonic() > deadline:
            sys.exit(f"etcd does not vote {ETCD_WITHIN:g} s after its restart; journalctl -u etcd")
        time.sleep(EVERY)


def main(action: str, *words: str) -> None:
    if action == "spare":
        print(json.dumps(spare(ask(), "alone" in words, "follower" in words)))
    elif action == "restart-etcd":
        restart_etcd("alone" in words)
    elif action == "whole":
        whole(float(words[0]), "follower" in words)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
