"""fab workers: pools that are shown, scaled and stopped; letters and jobs, and the questions before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from calling import Captured, call, records

sys.path.insert(0, str(Path(__file__).parents[1] / "operations"))

from service_fleet import BROKERS, EDGES, OLD, SERVING, Fault, ServiceFleet

import backline.tasks.operator
from backline import inventory
from backline.inventory import Environment, Host
from backline.tasks import jobs, workers
from backline.transport.port import HostError

NEW = "20261123T190500Z-9a2b3c4"
GROUPS = {"edge": EDGES, "streaming": SERVING, "worker": ("worker1",), "broker": BROKERS}


def letter(number: int, task: str = "music.record_play", **more: Any) -> dict[str, Any]:
    base = {"id": f"job{number}", "task": task, "queue": "plays", "why": "rejected", "at": 100.0}
    return {**base, "count": 1, "requeued": 0, **more}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceFleet:
    made = ServiceFleet()
    made.letters = [letter(1), letter(2), letter(3, "music.mail")]
    hosts = {
        name: Host(name, name, 22, "deploy", None, None, None, ())
        for names in GROUPS.values()
        for name in names
    }
    known = Environment("stage", tmp_path, hosts, GROUPS, True, ())
    monkeypatch.setattr(inventory, "load", lambda name: known)
    for module in (jobs, workers):
        monkeypatch.setattr(module, "reach", lambda environment: made)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: made.clock)
    return made


def test_status_shows_pools_their_jobs_and_the_scheduler(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.busy = [{"task": "music.record_play", "id": "job9", "since": None, "queue": "plays"}]
    assert call(workers.status) == 0
    out = capsys.readouterr().out
    assert "music.record_play job9" in out and "beat" in out and OLD in out
    assert max(map(len, out.splitlines())) <= 80
    assert call(workers.status, json=True) == 0
    pool, once = records(capsys)
    assert (pool["event"], pool["process"], pool["children"]) == ("pool", "plays", 2)
    assert (once["event"], once["active"]) == ("singleton", "active")


def test_queues_are_those_of_all_brokers_and_celerys_own_when_they_hold_something(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.queues = {"dead": 3, "celery_delayed_7": 0, "celery_delayed_9": 4, "plays": 0}
    assert call(workers.status) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.partition("QUEUE  ")[2].splitlines()[1:]] == [
        "celery_delayed_9",
        "dead",
        "plays",
    ]
    assert call(workers.status, json=True) == 0
    queues = [row for row in records(capsys) if row["event"] == "queue"]
    assert {(row["name"], row["messages"], row["dead"]) for row in queues} == {
        ("dead", 3, True),
        ("celery_delayed_7", 0, False),
        ("celery_delayed_9", 4, False),
        ("plays", 0, False),
    }
    fleet.dead = {BROKERS[1]}
    assert call(workers.status) == 1
    assert f"queues: {BROKERS[1]}: " in capsys.readouterr().out
    assert call(workers.status, json=True) == 1
    unknown = next(row for row in records(capsys) if row["event"] == "unknown")
    assert unknown["what"] == "queues" and unknown["why"].startswith(f"{BROKERS[1]}: ")


def test_status_of_what_is_ill_ends_with_1(fleet: ServiceFleet, capsys: Captured) -> None:
    fleet.mute = True
    assert call(workers.status) == 1
    assert "plays on worker1 does not answer its broker" in capsys.readouterr().out
    fleet.mute = False
    fleet.hosts["worker1"].running["beat"] = set()
    assert call(workers.status) == 1
    assert "beat on worker1 is inactive" in capsys.readouterr().out


def test_a_dead_host_is_a_row(
    fleet: ServiceFleet, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.dead = {"worker1"}
    assert call(workers.status, app="jukebox", json=True) == 1
    assert [row["event"] for row in records(capsys)] == ["silent", "error"]


def test_a_pool_is_scaled_and_started_anew(fleet: ServiceFleet, capsys: Captured) -> None:
    assert call(workers.scale, pool="plays", children=5, dry_run=True) == 0
    assert "worker1 plays: 2 → 5" in capsys.readouterr().err
    assert call(workers.scale, pool="plays", children=5, json=True) == 6
    assert fleet.children == {"worker1": 2} and not fleet.leased()
    fleet.calls.clear()
    assert call(workers.scale, pool="plays", children=5, yes=1, message="backlog") == 0
    verbs = [verb for _, verb, fields in fleet.calls if verb in ("scale", "stop", "start", "check")]
    assert verbs == ["scale", "stop", "start", "check"]
    assert fleet.children == {"worker1": 5} and fleet.leased() == []
    fleet.calls.clear()
    assert call(workers.scale, pool="plays", children=5, yes=1) == 0, "nothing is left to be done"
    assert "stop" not in [verb for _, verb, _ in fleet.calls]
    assert call(workers.scale, pool="plays", reset=True, yes=1) == 0
    assert fleet.children == {"worker1": 2}


def test_a_scale_that_was_cut_off_is_ended_by_the_same_command(fleet: ServiceFleet) -> None:
    """The number was kept, and the pool not started anew."""
    fleet.children, fleet.behind = {"worker1": 5}, 2
    assert call(workers.scale, pool="plays", children=5, yes=1) == 0
    verbs = [verb for _, verb, fields in fleet.calls if verb in ("scale", "stop", "start", "check")]
    assert verbs == ["scale", "stop", "start", "check"]


def test_a_scale_that_was_cut_off_before_the_start_is_ended_by_the_same_command(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.children, fleet.cut = {"worker1": 5}, True
    fleet.hosts["worker1"].running["plays"] = set()
    assert call(workers.scale, pool="plays", children=5, yes=1) == 0
    assert fleet.hosts["worker1"].running["plays"] == {OLD} and fleet.leased() == []
    assert "it is inactive, and started" in capsys.readouterr().err


@pytest.mark.parametrize("before", [2, 5])
def test_a_pool_that_rests_is_told_and_not_started(
    fleet: ServiceFleet, capsys: Captured, before: int
) -> None:
    fleet.children = {"worker1": before}
    fleet.hosts["worker1"].running["plays"] = set()
    assert call(workers.scale, pool="plays", children=5, yes=1) == 0
    assert fleet.children == {"worker1": 5} and not fleet.hosts["worker1"].running["plays"]
    assert "fab workers.drain worker1 --pool plays --undo" in capsys.readouterr().err


@pytest.mark.parametrize("begun", [False, True])
def test_a_deploy_that_ends_while_the_question_waits_is_not_undone(
    fleet: ServiceFleet, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """`begun`: it was at work already when the pools were looked at."""
    worker = fleet.hosts["worker1"]
    deploy = {"app": "jukebox", "run": "deploy-1", "token": worker.fence + 1, "lifetime": 60}

    def take() -> None:
        fleet.call("worker1", "lease", {**deploy, "action": "take"})

    def waits(*_: Any, **__: Any) -> None:
        if not begun:
            take()
        worker.live, worker.running = {"plays": NEW, "beat": NEW}, {"plays": {NEW}, "beat": {NEW}}
        fleet.call("worker1", "lease", {**deploy, "action": "release"})

    monkeypatch.setattr(workers, "confirm", waits)
    if begun:
        take()
    assert call(workers.scale, pool="plays", children=5) == 5
    assert fleet.children == {"worker1": 2}
    assert not {"scale", "stop", "start"} & {verb for _, verb, _ in fleet.calls}


@pytest.mark.parametrize(
    "flags",
    [{}, {"children": 3, "reset": True}, {"children": -1}, {"children": 3, "pool": "mail"}],
)
def test_a_scale_that_means_nothing_is_refused(fleet: ServiceFleet, flags: dict[str, Any]) -> None:
    assert call(workers.scale, **{"pool": "plays", "yes": 1, **flags}) == 1
    assert fleet.children == {"worker1": 2}


def test_a_pool_that_does_not_come_back_ends_it(fleet: ServiceFleet, capsys: Captured) -> None:
    fleet.faults = [Fault("check", "unhealthy")]
    assert call(workers.scale, pool="plays", children=5, yes=1) == 1
    assert "unhealthy" in capsys.readouterr().err and fleet.leased() == []


def test_pools_rest_and_start_again_and_the_host_stays(fleet: ServiceFleet) -> None:
    worker = fleet.hosts["worker1"]
    assert call(workers.drain, on="worker1", yes=1) == 0
    assert worker.running == {"plays": set(), "beat": set()} and not worker.drained
    assert call(workers.drain, on="worker1", undo=True, pool="plays", yes=1) == 0
    assert worker.running == {"plays": {OLD}, "beat": set()}
    assert call(workers.drain, on="worker1", pool="mail", yes=1) == 1
    assert call(workers.drain, on="stream1", yes=1) == 1, "it has no pool"


def test_pools_of_a_host_in_quarantine_are_not_started(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.hosts["stream1"].quarantine = {"worker1": {"why": "unhealthy", "at": 1}}
    assert call(workers.drain, on="worker1", yes=1) == 0
    assert call(workers.drain, on="worker1", undo=True, yes=1) == 6
    assert "fab deploy.catchup" in capsys.readouterr().err
    assert fleet.hosts["worker1"].running == {"plays": set(), "beat": set()}


def test_dead_letters_are_shown_and_stay(fleet: ServiceFleet, capsys: Captured) -> None:
    assert call(jobs.dead, json=True, task="music.mail") == 0
    found = records(capsys)
    assert [row["id"] for row in found if row["event"] == "letter"] == ["job3"]
    assert (found[-1]["there"], found[-1]["fit"]) == (3, 1)
    assert call(jobs.dead) == 0
    assert "dead: 3 dead letters" in capsys.readouterr().out
    assert len(fleet.letters) == 3


def test_the_number_of_letters_is_asked_for_and_all_go(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    assert call(jobs.requeue, dry_run=True) == 0
    told = capsys.readouterr().err
    assert "2 music.record_play (rejected) → plays" in told and "3 of 3 letters" in told
    assert call(jobs.requeue, json=True) == 6
    assert call(jobs.requeue, json=True, yes=2) == 6
    assert len(fleet.letters) == 3
    capsys.readouterr()
    assert call(jobs.requeue, json=True, yes=3) == 0
    assert [row["id"] for row in fleet.sent] == ["job1", "job2", "job3"]
    assert records(capsys)[-1]["moved"] == 3
    assert not [host for host in fleet.hosts.values() if host.lease]


def test_letters_that_came_since_are_not_moved_unseen(fleet: ServiceFleet) -> None:
    def meanwhile(host: str, verb: str) -> None:
        if verb == "jobs" and not any(row["id"] == "new" for row in fleet.letters):
            looked = [f for _, v, f in fleet.calls if v == "jobs" and f["action"] == "requeue"]
            if looked:
                fleet.letters.insert(0, letter(0, id="new"))

    fleet.before_call = meanwhile
    assert call(jobs.requeue, yes=3) == 0
    assert [row["id"] for row in fleet.letters] == ["new"]


def test_what_the_broker_does_not_take_stays(fleet: ServiceFleet, capsys: Captured) -> None:
    fleet.refuses = "plays: NotFound"
    assert call(jobs.requeue, yes=3) == 1
    assert "none is lost" in capsys.readouterr().err and len(fleet.letters) == 3


def test_what_stays_is_told_with_the_reason(fleet: ServiceFleet, capsys: Captured) -> None:
    fleet.letters[0]["late"] = True
    assert call(jobs.requeue, yes=3) == 0
    assert "job1 stays: its time is over" in capsys.readouterr().err
    assert [row["id"] for row in fleet.letters] == ["job1"]


def test_more_letters_that_stay_than_are_told_are_no_failure(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.letters = [letter(n, late=True) for n in range(800)]
    assert call(jobs.requeue, yes=800) == 0
    assert "and 300 more stay" in capsys.readouterr().err
    assert call(jobs.requeue, yes=800, json=True) == 0
    done = records(capsys)[-1]
    assert (done["moved"], done["held"], len(done["kept"])) == (0, 800, 500)


def test_without_letters_there_is_nothing_to_ask(fleet: ServiceFleet) -> None:
    fleet.letters = []
    assert call(jobs.requeue) == 0


def test_a_worker_host_that_is_down_does_not_keep_others_from_asking(
    fleet: ServiceFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.faults = [Fault("jobs", "no_celery")]
    assert call(jobs.dead) == 1
    assert call(jobs.dead) == 0


def test_a_job_is_revoked_after_saying_who_has_it(fleet: ServiceFleet, capsys: Captured) -> None:
    fleet.busy = [{"task": "music.record_play", "id": "job9", "since": None, "queue": "plays"}]
    assert call(jobs.revoke, job="job9", dry_run=True) == 0
    assert "plays@worker1 has music.record_play job9: active" in capsys.readouterr().err
    assert call(jobs.revoke, job="job9", json=True) == 6
    asked = [fields for _, verb, fields in fleet.calls if verb == "jobs"]
    assert all(fields["dry"] for fields in asked), "nobody was told so far"
    capsys.readouterr()
    assert call(jobs.revoke, job="job9", json=True, yes=1, terminate=True) == 0
    assert records(capsys)[-1]["confirmed"] == ["plays@worker1"]
    last = [fields for _, verb, fields in fleet.calls if verb == "jobs"][-1]
    assert last["terminate"] is True and last["dry"] is False and last["actor"]


def test_a_revoke_that_nobody_heard_is_an_error(
    fleet: ServiceFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(host: Any, fields: Any) -> dict[str, Any]:
        return {"found": {}, "confirmed": []}

    monkeypatch.setattr(fleet, "_jobs", deaf)
    assert call(jobs.revoke, job="job9", yes=1) == 1


def test_a_malformed_wish_is_asked_of_one_host_only(fleet: ServiceFleet) -> None:
    def usage(host: Any, fields: Any) -> dict[str, Any]:
        raise HostError("worker1", "ids must be a list", code="bad_field", exit_code=2)

    fleet._jobs = usage
    assert call(jobs.dead, limit=0) == 1
    assert call(jobs.dead) == 1


def test_workers_that_are_silent_are_not_without_an_app(
    fleet: ServiceFleet, capsys: Captured
) -> None:
    fleet.dead.add("worker1")
    for task, words in ((workers.status, ()), (workers.scale, ("plays",)), (jobs.dead, ())):
        assert call(task, *words, **({"children": 3} if words else {})) == 1
        assert "1 of 1 host did not answer" in capsys.readouterr().err
