"""fab deploy.plan, --plan HASH, resume, abort, pause, promote, catchup: over the fleet in memory."""

# ruff: noqa: F811 (pytest's fixtures have the names of what was imported)

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_fleet import FakeFleet, Fault
from test_operator_tasks import OLD, call, deploy, fleet, release, rollback  # noqa: F401 (fixtures)

import backline.tasks.contract
import backline.tasks.deploy
import backline.tasks.taking_over as tasks
from backline import stdout

plan = backline.tasks.deploy.plan_


def live(fleet: FakeFleet) -> set[str]:
    return {found for host in fleet.hosts.values() for found in host.live.values()}


def planned(release: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert call(plan, release=release, json=True) == 2
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def made(release: str, capsys: pytest.CaptureFixture[str]) -> str:
    return str(planned(release, capsys)["digest"])


def interrupted(fleet: FakeFleet, release: str) -> None:
    """A deploy that was interrupted between two hosts."""
    fleet.faults.append(Fault("start", "interrupt", host="stream2", release=release))
    assert call(deploy, release=release) == 130
    fleet.faults.clear()
    assert live(fleet) == {OLD, release}


def test_a_plan_is_told_as_the_deploy_tells_of_it(fleet: Any, release: str, capsys: Any) -> None:
    kept = planned(release, capsys)
    assert call(deploy, release=release, json=True, dry_run=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert kept["ship_to"] and kept == {**told, "run": "", "time": 0, "digest": kept["digest"]}


def test_a_saved_plan_is_carried_out(fleet: Any, release: str, capsys: Any) -> None:
    digest = made(release, capsys)
    assert live(fleet) == {OLD}
    assert call(deploy, plan=digest) == 0 and live(fleet) == {release}


def test_a_saved_plan_is_refused_when_the_world_changed(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    digest = made(release, capsys)
    fleet.hosts["stream2"].live["web"] = other = "20260101T120000Z-00000aa"
    assert call(deploy, plan=digest) == 6
    assert other in capsys.readouterr().err and fleet.hosts["stream1"].live == {"web": OLD}
    assert call(deploy, plan="0123456789ab") == 1
    assert call(deploy, plan=digest, release=release) == 1


def test_an_interrupted_run_is_resumed(fleet: Any, release: str) -> None:
    interrupted(fleet, release)
    assert call(tasks.resume) == 0 and live(fleet) == {release}


@pytest.mark.parametrize("task", [tasks.resume, tasks.abort])
def test_a_lease_that_nobody_can_see_is_not_one_that_has_run_out(
    fleet: Any, release: str, task: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(fleet, release)
    before = live(fleet)
    find = tasks._find

    def then_silent(*words: Any) -> Any:
        found = find(*words)
        fleet.dead |= set(fleet.hosts)
        return found

    monkeypatch.setattr(tasks, "_find", then_silent)
    assert call(task, dry_run=True) == 1
    fleet.dead.clear()
    monkeypatch.setattr(tasks.other_hands, "want", lambda *words: True)
    assert call(task) == 1 and live(fleet) == before
    assert "no host says whether somebody is at work" in capsys.readouterr().err


def test_an_interrupted_run_is_taken_back(fleet: Any, release: str) -> None:
    interrupted(fleet, release)
    assert call(tasks.abort) == 0 and live(fleet) == {OLD}
    assert call(tasks.resume) == 1  # nothing is unfinished


def reads(fleet: FakeFleet) -> set[tuple[str, str]]:
    """What hosts were asked: verbs, with their action."""
    return {(verb, str(fields.get("action", ""))) for _, verb, fields in fleet.calls}


def test_a_rehearsal_of_an_abort_says_what_each_host_goes_back_to(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    interrupted(fleet, release)
    capsys.readouterr()
    fleet.calls.clear()
    assert call(tasks.abort, dry_run=True) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "nobody works on it" in told and "3 hosts" in told
    assert f"stream1: web {release} → {OLD}" in told, told
    assert f"stream2: web has {OLD} already" in told, told
    assert reads(fleet) == {("facts", ""), ("lease", "show")} and live(fleet) == {OLD, release}
    assert call(tasks.abort, dry_run=True, json=True) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["event"], line["how"], line["holder"]) == ("plan", "abort", None)
    assert line["hosts"] == ["stream1", "stream2", "worker1"] and line["missing"] == []
    assert {"host": "stream1", "process": "web", "now": release, "to": OLD} in line["moves"]


def test_a_rehearsal_of_a_resume_says_what_each_host_would_get(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    interrupted(fleet, release)
    fleet.dead.add("worker1")
    capsys.readouterr()
    fleet.calls.clear()
    assert call(tasks.resume, dry_run=True) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert f"stream1: web has {release} already" in told, told
    assert f"stream2: web {OLD} → {release}" in told, told
    assert "without worker1: no answer" in told, told
    assert reads(fleet) == {("facts", ""), ("lease", "show")} and live(fleet) == {OLD, release}


def test_a_rehearsal_refuses_what_the_abort_would_refuse(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    interrupted(fleet, release)
    fleet.hosts["stream1"].run["ended"] = "new"
    assert call(tasks.abort, dry_run=True) == 6
    assert "has ended well on stream1" in capsys.readouterr().err


def test_a_rehearsal_in_the_middle_of_a_live_run_names_who_works_on_it(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    """It waits for nobody and tells nobody: the run goes on to its end."""
    codes: list[int] = []

    def meanwhile(host: str, verb: str) -> None:
        if verb == "switch" and not codes:
            codes.append(0)
            for task in (tasks.abort, tasks.resume, tasks.pause, tasks.promote):
                codes.append(call(task, dry_run=True))
            codes.append(call(tasks.pause, dry_run=True, json=True))

    fleet.before_call = meanwhile
    assert call(deploy, release=release) == 0 and live(fleet) == {release}
    assert codes[1:] == [0, 0, 0, 0, 0]
    said = capsys.readouterr()
    told = " ".join(said.err.split())
    assert "that run is told, and goes back by itself" in told and "refused (5)" in told
    assert "would be told: pause, on 3 hosts" in told and "would be told: promote" in told
    (line,) = map(json.loads, said.out.splitlines())
    assert (line["event"], line["want"]) == ("plan", "pause") and len(line["hosts"]) == 3
    assert "want" not in {verb for _, verb, _ in fleet.calls}


def test_who_told_a_live_run_something_reads_so_in_json(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    told: list[Any] = []

    def meanwhile(host: str, verb: str) -> None:
        if verb == "switch" and not told:
            told.append(None)
            capsys.readouterr()
            assert call(tasks.promote, json=True) == 0
            told.extend(map(json.loads, capsys.readouterr().out.splitlines()))

    fleet.before_call = meanwhile
    assert call(deploy, release=release) == 0
    (line,) = told[1:]
    assert (line["schema_version"], line["event"], line["want"]) == (1, "told", "promote")
    assert line["hosts"] == ["stream1", "stream2", "worker1"] and line["run"]


def test_a_new_deploy_is_refused_until_then(fleet: Any, release: str) -> None:
    interrupted(fleet, release)
    assert call(deploy, release=release) == 6
    assert call(deploy, release=release, takeover=True) == 0 and live(fleet) == {release}


@pytest.mark.parametrize("task", [tasks.pause, tasks.promote])
def test_nobody_is_told_of_a_run_that_nobody_works_on(
    fleet: Any, release: str, task: Any
) -> None:  # fmt: skip
    interrupted(fleet, release)
    assert call(task) == 1


def test_a_live_run_pauses_and_is_promoted(fleet: Any, release: str) -> None:
    """Told from another terminal, while a call of the run is under way."""
    said: list[tuple[str, float]] = []

    def meanwhile(host: str, verb: str) -> None:
        wanted = {"start": tasks.pause, "renew": tasks.promote}
        if verb == "start" and not said:
            said.append(("pause", fleet.clock.now))
            stdout._changing.clear()
            assert call(wanted["start"]) == 0 and stdout._changing, "a reader that goes is no error"
        elif len(said) == 1 and fleet.clock.now > said[0][1] + 60:
            said.append(("promote", fleet.clock.now))
            assert call(wanted["renew"]) == 0

    fleet.before_call = meanwhile
    assert call(deploy, release=release) == 0 and live(fleet) == {release}
    assert [what for what, _ in said] == ["pause", "promote"]


@pytest.mark.parametrize("dead_at", ["want", "lease"])
@pytest.mark.parametrize("task", [tasks.pause, tasks.abort])
def test_a_run_that_no_host_told_of_it_was_not_told(
    fleet: Any, release: str, capsys: Any, task: Any, dead_at: str
) -> None:  # fmt: skip
    interrupted(fleet, release)
    run = fleet.hosts["stream1"].run["run"]
    held = {"app": "jukebox", "run": run, "token": 9, "holder": "bob@desk", "lifetime": 60}
    fleet.call("stream1", "lease", {**held, "action": "take"})
    looks: list[str] = []

    def cut(host: str, verb: str) -> None:
        looks.extend([verb] if verb == "lease" and host == "stream1" else [])
        if verb == dead_at and (verb == "want" or len(looks) > (task is tasks.pause)):
            fleet.dead = set(fleet.hosts)

    fleet.before_call = cut
    capsys.readouterr()
    assert call(task) == 1
    assert "the run was not told" in capsys.readouterr().err


def test_a_live_run_goes_back_when_it_is_told(fleet: Any, release: str) -> None:
    told: list[int] = []

    def meanwhile(host: str, verb: str) -> None:
        if verb == "switch" and not told:
            run = fleet.hosts["stream1"].run["run"]
            for name in ("stream1", "stream2", "worker1"):
                told.append(1)
                fleet.call(name, "want", {"run": run, "want": "abort", "actor": "bob@desk"})

    fleet.before_call = meanwhile
    assert call(deploy, release=release) == 4 and live(fleet) == {OLD}


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        ("old", 0, "all hosts have what they had"),
        ("refused", 0, "all hosts have what they had"),
        ("new", 6, "had ended with the new release"),
        ("mixed", 3, "not all of its hosts say"),
    ],
)
@pytest.mark.parametrize("some", [False, True])
def test_a_run_that_ended_and_freed_its_lease_between_two_looks_is_not_taken_over(
    fleet: Any, release: str, capsys: Any, ended: str, code: int, said: str, some: bool
) -> None:  # fmt: skip
    """It had heard for the last time before it was told. `some`: the other hosts end as told."""
    interrupted(fleet, release)
    run = fleet.hosts["stream1"].run["run"]
    held = {"app": "jukebox", "run": run, "token": 9, "holder": "bob@desk", "lifetime": 60}
    fleet.call("stream1", "lease", {**held, "action": "take"})

    def meanwhile(host: str, verb: str) -> None:
        if verb == "lease" and any(verb == "want" for _, verb, _ in fleet.calls):
            for known in fleet.hosts.values():
                if known.run:
                    known.run["ended"], known.lease = "old" if some else ended, None
            fleet.hosts["stream2"].run["ended"] = ended

    fleet.before_call = meanwhile
    capsys.readouterr()
    assert call(tasks.abort) == code
    told = " ".join(capsys.readouterr().err.split())
    assert (said in told or (some and "ended well on stream2" in told)) and run in told


def test_a_rollback_in_the_middle_of_a_live_run_says_whose_run_it_is(
    fleet: Any, release: str, capsys: Any
) -> None:  # fmt: skip
    """Two releases are live then: which of them is the earlier one is not the question."""
    codes: list[int] = []

    def meanwhile(host: str, verb: str) -> None:
        if verb == "switch" and live(fleet) == {OLD, release} and not codes:
            codes.append(0)
            codes.append(call(rollback))

    fleet.before_call = meanwhile
    assert call(deploy, release=release) == 0
    assert codes[1:] == [5] and "is working on this app" in capsys.readouterr().err


def test_a_host_in_quarantine_is_caught_up(fleet: Any, release: str) -> None:
    fault = Fault("check", "unhealthy", host="stream2", release=release)
    fleet.faults.append(fault)
    assert call(deploy, release=release, budget="1", floor="0") == 0
    assert fleet.hosts["stream2"].drained and live(fleet) == {OLD, release}
    assert list(fleet.hosts["stream1"].quarantine) == ["stream2"]
    assert call(tasks.catchup) == 0
    assert not fleet.hosts["stream2"].drained and live(fleet) == {release}
    assert all(not host.quarantine for host in fleet.hosts.values())
    assert call(tasks.catchup) == 1


def test_of_a_zone_that_is_left_out_only_the_apps_hosts_are_remembered(
    fleet: Any, release: str
) -> None:  # fmt: skip
    """Nobody would ever catch db1 up, and its mark would stay."""
    assert call(deploy, release=release, quarantine="stream2,db1", budget="1", floor="0") == 0
    assert list(fleet.hosts["stream1"].quarantine) == ["stream2"]
    assert call(tasks.catchup) == 0 and live(fleet) == {release}
    assert call(deploy, release=release, quarantine="db1") == 1


@pytest.mark.parametrize("task", [rollback, tasks.catchup, tasks.resume])
@pytest.mark.parametrize("app", ["", "jukebox"])
def test_hosts_that_are_silent_are_not_taken_for_hosts_without_an_app(
    fleet: Any, task: Any, app: str, capsys: Any
) -> None:
    fleet.dead |= set(fleet.hosts)
    assert call(task, **({"app": app} if app and task is not tasks.catchup else {})) == 1
    err = capsys.readouterr().err
    assert "error: 4 of 4 hosts did not answer" in err and "no app runs" not in err
    assert "db1,stream[1-2],worker1: no answer" in err and "state: nothing was changed" in err
    assert "fab doctor" in err


def test_who_answers_without_an_app_does_not_speak_for_the_others(fleet: Any, capsys: Any) -> None:
    fleet.dead |= {"stream1", "stream2", "worker1"}
    assert call(rollback) == 1
    err = capsys.readouterr().err
    assert "no app runs on the hosts that answered; 3 of 4 hosts did not answer" in err
    fleet.dead.clear()
    assert call(rollback, on="db1") == 1
    assert "no app runs on these hosts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("lease", "nothing was changed"),
        ("mark", "no migration has run; hosts that heard of it go back to no older release"),
        ("migrate", "refused from now on, since some of the migrations may have run"),
    ],
)
def test_a_contract_that_fails_says_what_can_be_gone_back_to(
    verb: str, state: str, fleet: Any, release: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backline.tasks.contract, "reach", lambda environment: fleet)
    fleet.faults.append(Fault(verb, "unreachable", host="stream1", forever=True))
    assert call(backline.tasks.contract.contract) == 1
    assert state in " ".join(capsys.readouterr().err.split())
    marked = [host.name for host in fleet.hosts.values() if host.contracted]
    assert bool(marked) == (verb != "lease"), marked
