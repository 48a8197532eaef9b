"""Pools finish what they have while the new ones take new jobs; a scheduler never runs twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from backline.tasks.steps import ROOT
from tests.live import Fleet, run
from tests.releases import build_kind
from tests.rollout.runs import QUICK, changing, fab, live

SHARED = "/srv/jukebox/shared"
NAP = 42  # less than the soft time limit of the application
POOLS = yaml.safe_load((ROOT / "inventory/lab/group_vars/worker.yml").read_text())["worker_pools"]


def provision(fleet: Fleet, *more: dict[str, object]) -> None:
    """The pools of the inventory, and more."""
    pools = json.dumps({"worker_pools": [*POOLS, *more]})
    fleet.playbook("worker", "--extra-vars", pools)


@pytest.fixture(scope="module")
def host(fleet: Fleet) -> Iterator[str]:
    """The first worker host, with a scheduler besides its pool; gone again afterwards."""
    name = fleet.hosts("worker")[0]
    before = next(iter(live(fleet)[name]))
    ticks = {"name": "ticks", "process": "ticks", "kind": "singleton", "host": name}
    provision(fleet, {**ticks, "stop_timeout": 60, "soft_shutdown": 5})
    fleet.on(name, f"sudo rm -f {SHARED}/naps {SHARED}/ticks")
    yield name
    provision(fleet)
    fab(fleet, "deploy", "--release", str(before), *QUICK, *changing(fleet))


def lines(fleet: Fleet, host: str, file: str) -> list[tuple[float, str, int, str]]:
    """(when, release, process, what) of each line."""
    found = []
    for line in fleet.on(host, f"sudo cat {SHARED}/{file}").out.splitlines():
        when, release, process, what = line.split(" ", 3)
        found.append((float(when), release, int(process), what))
    return sorted(found)


def nap(fleet: Fleet, host: str, name: str) -> None:
    """Puts a long job into the queue."""
    celery = f"/srv/jukebox/current/venv/bin/celery -A jukebox call music.nap --args='[{NAP}, \"{name}\"]'"
    unit = "systemd-run --quiet --pipe --wait --uid=jukebox -p EnvironmentFile=/etc/jukebox/jukebox.env"
    folder = "-p WorkingDirectory=/srv/jukebox/current/app"
    fleet.on(host, f"sudo {unit} {folder} {celery} --queue plays")


def test_long_jobs_end_where_they_began(fleet: Fleet, host: str) -> None:
    first, second = build_kind("jobs"), build_kind("jobs")
    fab(fleet, "deploy", "--release", first, *QUICK, *changing(fleet))
    nap(fleet, host, "old")
    end = time.monotonic() + 20
    while "begin old" not in [what for *_, what in lines(fleet, host, "naps")]:
        assert time.monotonic() < end, "nobody took the job"
        time.sleep(0.5)
    fab(fleet, "deploy", "--release", second, *QUICK, *changing(fleet))
    nap(fleet, host, "new")
    time.sleep(NAP + 10)
    naps = {what: (when, release) for when, release, _, what in lines(fleet, host, "naps")}
    print("\n", naps)
    assert naps["begin old"][1] == naps["end old"][1] == first
    assert naps["begin new"][1] == naps["end new"][1] == second
    assert naps["begin new"][0] < naps["end old"][0], "the new pool waited for the old one"
    assert len(lines(fleet, host, "naps")) == 4, "a job ran twice"
    units = fleet.on(host, "systemctl list-units --plain --no-legend 'jukebox-worker-plays@*'").out
    assert first not in units, "the old pool stays although it has nothing to do"


def test_a_scheduler_never_runs_twice(fleet: Fleet, host: str) -> None:
    """Through deploys, a rollback, and a deploy that fails after it was started."""
    for release in (build_kind("jobs"), build_kind("jobs")):
        fab(fleet, "deploy", "--release", release, *QUICK, *changing(fleet))
    fab(fleet, "rollback", *changing(fleet))
    ticks = lines(fleet, host, "ticks")
    processes = list(dict.fromkeys(process for _, _, process, _ in ticks))
    ends = {process: max(t[0] for t in ticks if t[2] == process) for process in processes}
    begins = {process: min(t[0] for t in ticks if t[2] == process) for process in processes}
    gaps = [
        begins[after] - ends[before]
        for before, after in zip(processes, processes[1:], strict=False)
    ]
    print(f"\n{len(processes)} schedulers one after the other; nobody ticked for {gaps} s")
    assert len(processes) >= 4
    assert all(gap > 0 for gap in gaps)
    assert run("fab", "status", "--env", fleet.env, "--json").lines
