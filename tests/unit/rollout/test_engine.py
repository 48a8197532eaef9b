"""How a deploy ends, whatever goes wrong on the way: data in cases.yml, and every call in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_fleet import FakeFleet, FakeHost, Fault, small_fleet

from backline.errors import BacklineError
from backline.release.model import Archive, Release, ReleaseProcess
from backline.rollout import choices, planner, takeover
from backline.rollout.cargo import Cargo
from backline.rollout.engine import Rollout
from backline.rollout.events import Event
from backline.rollout.lease import Run
from backline.rollout.plan import Plan

OLD, NEW = "20260101T000000Z-0000001", "20260102T000000Z-0000002"
GROUPS = {"streaming": ("stream1", "stream2"), "worker": ("worker1",)}
PROCESSES = {"stream1": ("web",), "stream2": ("web",), "worker1": ("mail", "plays")}
CASES = yaml.safe_load((Path(__file__).parent / "cases.yml").read_text())


def release(identity: str = NEW) -> Release:
    web = ReleaseProcess(kind="http", hosts="streaming", command=["x"], stop_timeout=30)
    worker = ReleaseProcess(kind="worker", hosts="worker", command=["x"], stop_timeout=120)
    return Release(
        id=identity,
        app="jukebox",
        version="2",
        commit=None,
        dirty=False,
        built_at="2026-01-02T00:00:00Z",
        python="3.11",
        archive=Archive(tar_sha256="", tar_size=1, zst_sha256="", zst_size=1),
        files={},
        processes={"web": web, "worker": worker},
        migrations={"expand": [["migrate"]], "contract": []},
    )


def statuses(fleet: FakeFleet) -> dict[str, Any]:
    return {name: fleet._status(host, {}) for name, host in fleet.hosts.items()}


def run(
    fleet: FakeFleet, plan: Plan, tmp_path: Path, name: str = "run-1", **options: Any
) -> tuple[int, str, list[Event]]:
    """Exit code, everything said about the end, and the events."""
    archive = tmp_path / f"{plan.release}.tar.zst"
    archive.write_bytes(b"release")
    events: list[Event] = []
    who = Run(name, "jukebox", "ann@desk", "because")
    cargo = Cargo(plan, (), archive, {}) if plan.action == "deploy" else None
    fences = {host: fleet.hosts[host].fence for host in plan.hosts}
    options = {"cargo": cargo, "fences": fences, **options}
    try:
        Rollout(plan, fleet, who, fleet.clock, events.append, **options).carry_out()
    except BacklineError as error:
        return int(error.exit_code), f"{error.message} {error.state} {error.hint}", events
    return 0, "", events


def deploy(fleet: FakeFleet, tmp_path: Path) -> tuple[int, str, list[Event]]:
    return run(fleet, planner.deploy(release(), GROUPS, statuses(fleet)), tmp_path)


def named(text: Any) -> Any:
    return text.replace("OLD", OLD).replace("NEW", NEW) if isinstance(text, str) else text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    old = named(case.get("old", "OLD"))
    fleet = small_fleet(old, PROCESSES)
    for entry in case["faults"]:
        fleet.faults.append(Fault(**{key: named(value) for key, value in entry.items()}))
    code, said, _ = deploy(fleet, tmp_path)
    assert code == case["exit"], said
    for words in case.get("says", []):
        assert named(words) in said
    if "live" in case:
        for name, host in fleet.hosts.items():
            wanted = case["live"] if isinstance(case["live"], str) else case["live"][name]
            assert set(host.live.values()) == {named(wanted)}, name
    if case.get("running") == "nothing":
        assert not any(any(host.running.values()) for host in fleet.hosts.values())
    if case.get("discarded"):
        assert set(fleet.discarded) == set(fleet.hosts)
    if "marked" in case:
        assert {host.staged[NEW] for host in fleet.hosts.values()} == {case["marked"]}
    assert all(host.lease is None for name, host in fleet.hosts.items() if name not in fleet.dead)


@pytest.mark.parametrize("effect", ["unreachable", "lost", "unhealthy", "interrupt"])
def test_whichever_call_fails_the_exit_code_tells_the_truth(effect: str, tmp_path: Path) -> None:
    """One fault at every single call of a deploy: all-new, all-old, mixed and said so, or 130."""
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    count = sum(verb != "ship" for _, verb, _ in fleet.calls)
    for nth in range(1, count + 1):
        fleet = small_fleet(OLD, PROCESSES)
        fleet.faults.append(Fault("*", effect, nth=nth))
        try:
            code, said, _ = deploy(fleet, tmp_path)
        except KeyboardInterrupt:  # while leases are taken or given back: nothing half done
            code, said = 130, ""
        live = {release for host in fleet.hosts.values() for release in host.live.values()}
        allowed = {0: {NEW}, 1: {OLD, NEW}, 4: {OLD}, 6: {OLD}, 5: {OLD}}
        assert code in (*allowed, 130), f"call {nth}: {said}"
        if code in allowed:
            assert len(live) == 1 and live <= allowed[code], f"call {nth}: exit {code}, {live}"


def test_web_hosts_go_one_after_the_other_and_workers_last(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, {"worker1": ("plays",), "stream1": ("web",), "stream2": ("web",)})
    code, said, _ = deploy(fleet, tmp_path)
    assert code == 0, said
    turns = [(host, verb) for host, verb, _ in fleet.calls if verb in ("start", "switch", "stop")]
    assert turns == [
        (host, verb)
        for host in ("stream1", "stream2", "worker1")
        for verb in ("start", "switch", "stop")
    ]


def test_the_old_process_stays_until_the_new_one_has_settled(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, {"stream1": ("web",)})
    at: dict[str, float] = {}
    fleet.before_call = lambda host, verb: at.__setitem__(verb, fleet.clock.now)
    plan = planner.deploy(release(), {"streaming": ("stream1",), "worker": ()}, statuses(fleet))
    assert run(fleet, plan, tmp_path)[0] == 0
    assert at["stop"] - at["switch"] >= 0.5
    host = fleet.hosts["stream1"]
    assert host.running["web"] == {NEW, OLD} and host.retiring == {("web", OLD)}


def test_the_schema_is_migrated_once_before_any_start(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    verbs = [verb for _, verb, _ in fleet.calls]
    assert verbs.count("migrate") == 1
    assert max(i for i, v in enumerate(verbs) if v == "stage") < verbs.index("migrate")
    assert verbs.index("migrate") < verbs.index("start")


def test_a_second_deploy_of_the_same_release_changes_nothing(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    fleet.calls.clear(), fleet.shipped.clear()
    assert deploy(fleet, tmp_path)[0] == 0
    assert fleet.shipped == []
    assert not {verb for _, verb, _ in fleet.calls} & {"switch", "stop", "rollback"}


def test_leftovers_of_a_killed_deploy_are_ended(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    leftover = "20260101T120000Z-00000aa"
    fleet.hosts["stream1"].running["web"].add(leftover)
    assert deploy(fleet, tmp_path)[0] == 0
    assert fleet.hosts["stream1"].running["web"] == {NEW, OLD}


def test_a_singleton_never_runs_twice_and_comes_back(tmp_path: Path) -> None:
    beat = release().model_copy(
        update={
            "processes": {
                "beat": ReleaseProcess(kind="singleton", hosts="w", command=["x"], stop_timeout=5)
            }
        }
    )
    for faults, code, live in (
        ([], 0, NEW),
        ([Fault("check", "unhealthy", release=NEW)], 4, OLD),
        ([Fault("start", "start_failed", release=NEW)], 4, OLD),
    ):
        fleet = small_fleet(OLD, {"worker1": ("beat",)})
        fleet.faults += faults
        plan = planner.deploy(beat, {"w": ("worker1",)}, statuses(fleet))
        assert run(fleet, plan, tmp_path)[0] == code
        assert fleet.hosts["worker1"].running["beat"] == {live}


def test_a_second_operator_is_told_who_is_at_work(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    fleet.hosts["stream2"].lease = ("run-0", 1)
    fleet.hosts["stream2"].lease_ends = fleet.clock.now + 42
    code, said, _ = deploy(fleet, tmp_path)
    assert code == 5
    assert "ann@desk" in said and "42 s" in said
    assert fleet.hosts["stream1"].lease is None
    assert fleet.hosts["stream1"].live == {"web": OLD}


def test_a_world_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    plan = planner.deploy(release(), GROUPS, statuses(fleet))
    fleet.hosts["stream2"].live["web"] = other = "20260101T120000Z-00000aa"
    code, said, _ = run(fleet, plan, tmp_path)
    assert code == 6 and other in said
    assert fleet.hosts["stream1"].live == {"web": OLD}


def test_the_token_is_above_every_fence(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    fleet.hosts["stream2"].fence = 41
    assert deploy(fleet, tmp_path)[0] == 0
    assert {host.fence for host in fleet.hosts.values()} == {42}


def test_changes_carry_who_and_why(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    for _, verb, fields in fleet.calls:
        if verb in ("stage", "start", "switch", "stop", "mark", "prune", "migrate"):
            assert (fields["actor"], fields["message"]) == ("ann@desk", "because")


def test_rollback_goes_on_past_a_dead_host_and_names_it(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    fleet.faults.append(Fault("rollback", "unreachable", host="stream1", release=OLD))
    plan = planner.rollback("jukebox", OLD, statuses(fleet))
    code, said, _ = run(fleet, plan, tmp_path)
    assert code == 3 and "stream1" in said
    assert fleet.hosts["stream1"].live == {"web": NEW}
    assert fleet.hosts["stream2"].live == {"web": OLD}
    assert set(fleet.hosts["worker1"].live.values()) == {OLD}


def test_rollback_ships_and_migrates_nothing_and_marks_what_it_left(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    fleet.calls.clear()
    code, said, _ = run(fleet, planner.rollback("jukebox", OLD, statuses(fleet)), tmp_path)
    assert code == 0, said
    assert not {verb for _, verb, _ in fleet.calls} & {"ship", "stage", "migrate"}
    for host in fleet.hosts.values():
        assert set(host.live.values()) == {OLD}
        assert host.staged == {OLD: "good", NEW: "bad"}


@pytest.mark.parametrize("back", ["rollback", "deploy"])
def test_the_way_back_leads_to_what_served_last(back: str, tmp_path: Path) -> None:
    """OLD, NEW, OLD again, then another one: listeners had OLD before that, whichever way it came back."""
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    again = planner.deploy(release(OLD), GROUPS, statuses(fleet))
    if back == "rollback":
        again = planner.rollback("jukebox", OLD, statuses(fleet))
    third = release("20260103T000000Z-0000003")
    for number, plan in enumerate((again, None), 2):
        plan = plan or planner.deploy(third, GROUPS, statuses(fleet))
        code, said, _ = run(fleet, plan, tmp_path, f"run-{number}")
        assert code == 0, said
    assert {live for host in fleet.hosts.values() for live in host.live.values()} == {third.id}
    assert choices.choose_rollback(statuses(fleet)) == OLD


def test_a_release_that_was_called_good_and_taken_back_is_no_way_back(tmp_path: Path) -> None:
    """Its controller died right after the marks, and an operator took the run back."""
    fleet = small_fleet(OLD, PROCESSES)
    fleet.faults.append(Fault("prune", "interrupt"))
    assert deploy(fleet, tmp_path)[0] == 130
    assert all(host.good == [OLD, NEW] for host in fleet.hosts.values())
    found = takeover.choose(statuses(fleet), "run-1")
    code, said, _ = run(
        fleet, found.plan, tmp_path, fences=found.fences, resumed=True, back=True, asked_back=True
    )
    assert code == 0, said
    assert all(host.good == [OLD] for host in fleet.hosts.values())
    assert {host.staged[NEW] for host in fleet.hosts.values()} == {"staged"}


@pytest.mark.parametrize("again", ["rollback", "deploy"])
@pytest.mark.parametrize("verb", ["mark", "prune"])
def test_what_is_live_again_was_called_good_last(again: str, verb: str, tmp_path: Path) -> None:
    """A way back to OLD whose controller died amid or right after its marks, and that was taken back:
    NEW is live as before, OLD is the way back, and NEW is one from what comes after it."""
    fleet = small_fleet(OLD, PROCESSES)
    deploy(fleet, tmp_path)
    plan = planner.deploy(release(OLD), GROUPS, statuses(fleet))
    if again == "rollback":
        plan = planner.rollback("jukebox", OLD, statuses(fleet))
    nth = len(fleet.hosts) + 1 if verb == "mark" and again == "rollback" else 1
    fleet.faults.append(Fault(verb, "interrupt", nth=nth))
    assert run(fleet, plan, tmp_path, "run-2")[0] == 130
    found = takeover.choose(statuses(fleet), "run-2")
    options = {"fences": found.fences, "resumed": True, "back": True, "asked_back": True}
    code, said, _ = run(fleet, found.plan, tmp_path, "run-2", **options)
    assert code == 0, said
    for host in fleet.hosts.values():
        assert set(host.live.values()) == {NEW}
        assert host.good == [OLD, NEW] and host.staged == {OLD: "good", NEW: "good"}
    assert choices.choose_rollback(statuses(fleet)) == OLD


def test_a_rollback_that_is_taken_back_calls_nothing_good_that_was_not(tmp_path: Path) -> None:
    """NEW was on its way when somebody rolled back."""
    fleet = small_fleet(OLD, PROCESSES)
    fleet.faults.append(Fault("mark", "interrupt"))
    assert deploy(fleet, tmp_path)[0] == 130
    for host in fleet.hosts.values():
        host.good, host.staged[NEW] = [OLD], "staged"
    fleet.faults.append(Fault("prune", "interrupt"))
    plan = planner.rollback("jukebox", OLD, statuses(fleet))
    assert run(fleet, plan, tmp_path, "run-2", replace=True)[0] == 130
    found = takeover.choose(statuses(fleet), "run-2")
    options = {"fences": found.fences, "resumed": True, "back": True, "asked_back": True}
    code, said, _ = run(fleet, found.plan, tmp_path, "run-2", **options)
    assert code == 0, said
    for host in fleet.hosts.values():
        assert set(host.live.values()) == {NEW} and host.good == [OLD]


def test_no_host_without_its_processes() -> None:
    fleet = FakeFleet([FakeHost("stream1", ()), FakeHost("worker1", ("plays",))])
    groups = {"streaming": ("stream1",), "worker": ("worker1",)}
    with pytest.raises(BacklineError, match="stream1 has no process for web"):
        planner.deploy(release(), groups, statuses(fleet))
