"""How fast a rollback is."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from backline.tasks.steps import ROOT
from tests.live import BIN, Fleet
from tests.releases import build_kind
from tests.rollout.runs import QUICK, changing, fab, live

SECONDS = 2.0


def test_the_whole_fleet_is_back_within_two_seconds(fleet: Fleet) -> None:
    """From the first packet to a host (strace sees it leave) to the last switch (hosts say when)."""
    before = live(fleet)
    fab(fleet, "deploy", "--release", build_kind("line"), *QUICK, *changing(fleet))
    trace = f"/tmp/backline-first-packet-{time.time_ns()}"
    words = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", "trace=connect", "-o", trace]
    words += [str(BIN / "fab"), "rollback", "--env", fleet.env, *changing(fleet), "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first = min(_ssh_connects(fleet, trace))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    switched = [event for event in events if event["event"] == "rollback"]
    took = max(event["switched_at"] for event in switched) - first
    answered = max(event["time"] for event in switched) - first
    print(
        f"\n{len(switched)} processes: last switch after {took:.2f} s, last answer {answered:.2f} s"
    )
    assert live(fleet) == before
    assert took < SECONDS


def _ssh_connects(fleet: Fleet, trace: str) -> list[float]:
    ports = {str(host.ssh_port) for host in fleet.topology}
    found = []
    with Path(trace).open() as file:
        for line in file:
            if "connect(" in line and any(f"htons({port})" in line for port in ports):
                found.append(float(line.split()[1]))
    return found
