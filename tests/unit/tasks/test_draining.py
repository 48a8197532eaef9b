"""fab drain and undrain: the plan, the question, exit codes, what programs read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from calling import Captured, call

sys.path.insert(0, str(Path(__file__).parents[1] / "operations"))

from service_fleet import EDGES, SERVING, Fault, ServiceFleet

import backline.tasks.operator
from backline import inventory
from backline.inventory import Environment, Host
from backline.tasks import draining

NEW = "20261123T190500Z-9a2b3c4"
GROUPS = {"edge": EDGES, "streaming": SERVING, "worker": ("worker1",)}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceFleet:
    made = ServiceFleet()
    hosts = {
        name: Host(name, name, 22, "deploy", None, None, None, ())
        for names in GROUPS.values()
        for name in names
    }
    known = Environment("stage", tmp_path, hosts, GROUPS, True, ())
    monkeypatch.setattr(inventory, "load", lambda name: known)
    monkeypatch.setattr(draining, "reach", lambda environment: made)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: made.clock)
    return made


def test_the_plan_says_what_becomes_of_each_pool_and_changes_nothing(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    assert call(draining.drain, on="worker1,stream1", dry_run=True) == 0
    told = capsys.readouterr().err
    assert "edge[1-2] send nothing new to them" in told and "2 hosts" in told
    assert "worker1 plays finishes its jobs and stops" in told
    assert "worker1 beat stops: nothing is scheduled" in told
    assert not any(host.drained for host in fleet.hosts.values()) and not fleet.leased()


def test_the_number_of_hosts_is_asked_for(fleet: ServiceFleet, capsys: Captured) -> None:
    assert call(draining.drain, on="stream1", json=True) == 6
    assert call(draining.drain, on="stream1", json=True, yes=2) == 6
    assert not fleet.hosts["stream1"].drained
    capsys.readouterr()
    assert call(draining.drain, on="stream1", json=True, yes=1, message="disks") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(record["schema_version"] == 1 for record in found)
    assert (found[0]["event"], found[0]["hosts"]) == ("plan", ["stream1"])
    assert (found[-1]["event"], found[-1]["what"]) == ("done", "drained")


def test_the_last_one_is_refused(fleet: ServiceFleet) -> None:
    assert call(draining.drain, on="streaming", yes=2) == 6
    assert call(draining.drain, on="streaming", yes=2, outage=True) == 0


def test_there_and_back(fleet: ServiceFleet, capsys: Captured) -> None:
    assert call(draining.drain, on="stream1", yes=1) == 0
    assert call(draining.undrain, on="stream1", yes=1) == 0
    told = capsys.readouterr().err
    assert "drained: stream1" in told and "undrained: stream1" in told
    assert not fleet.hosts["stream1"].drained


def test_ctrl_c_is_told_with_what_it_leaves(fleet: ServiceFleet, capsys: Captured) -> None:
    fleet.faults = [Fault("balance", "interrupt", host="edge2", nth=4)]
    assert call(draining.drain, on="stream1", yes=1) == 130
    assert "stream1 is drained" in capsys.readouterr().err and fleet.leased() == []


def test_a_typing_error_means_nobody(fleet: ServiceFleet) -> None:
    assert call(draining.drain, on="steam1", yes=1) == 1
    assert call(draining.drain, on="stream1", yes=1, skip="egde1") == 1
    assert call(draining.drain, on="stream1", yes=1, timeout=0) == 1
    assert fleet.calls == []


def test_a_dead_edge_that_is_named_is_not_waited_for(fleet: ServiceFleet) -> None:
    fleet.dead = {"edge2"}
    assert call(draining.drain, on="stream1", yes=1) == 1
    assert call(draining.drain, on="stream1", yes=1, skip="edge2") == 0


def test_a_host_that_is_silent_is_named_with_its_reason(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.dead.add("stream1")
    for task in (draining.drain, draining.undrain):
        assert call(task, on="stream1") == 1
        err = capsys.readouterr().err
        assert "1 of 1 host did not answer" in err and "stream1: " in err
        assert "no app" not in err


def test_without_any_edge_the_last_one_is_refused_too(fleet: ServiceFleet) -> None:
    assert call(draining.drain, on="stream1", yes=1, skip="edge") == 0
    assert call(draining.drain, on="stream2", yes=1, skip="edge") == 6
    assert not fleet.hosts["stream2"].drained


def test_a_worker_in_quarantine_stays_away_though_only_others_know(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    worker = fleet.hosts["worker1"]
    fleet.hosts["stream2"].quarantine = {"worker1": {"why": "unhealthy", "at": 1}}
    worker.drained, worker.running = True, {"plays": set(), "beat": set()}
    fleet.dead = {"stream1"}
    assert call(draining.undrain, on="worker1", yes=1) == 6
    assert "worker1 is in quarantine: unhealthy" in capsys.readouterr().err
    assert worker.drained and worker.running == {"plays": set(), "beat": set()}


@pytest.mark.parametrize("task", [draining.drain, draining.undrain])
def test_a_deploy_that_ends_while_the_question_waits_leaves_no_old_plan(
    fleet: ServiceFleet, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    worker = fleet.hosts["worker1"]
    deploy = {"app": "jukebox", "run": "deploy-1", "token": 1, "lifetime": 60}

    def ends(*_: Any) -> None:
        worker.live, worker.running = {"plays": NEW, "beat": NEW}, {"plays": {NEW}, "beat": {NEW}}
        fleet.call("worker1", "lease", {**deploy, "action": "release"})

    monkeypatch.setattr(draining, "confirm", ends)
    fleet.call("worker1", "lease", {**deploy, "action": "take"})
    assert call(task, on="worker1") == 5
    assert not {"start", "stop", "drain"} & {verb for _, verb, _ in fleet.calls}
