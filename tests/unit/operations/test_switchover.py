"""A planned switchover from the controller: its order, and what is undone when a step fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from data_fleet import APPS, NAMES, Clock, DataFleet

from backline.errors import BacklineError
from backline.operations.database import judge, look
from backline.operations.database.switchover import Ended, Switchover
from backline.transport.port import HostError, Unreachable


def view(fleet: DataFleet) -> look.View:
    return look.collect(fleet, NAMES)  # type: ignore[arg-type]


def run(fleet: DataFleet, clock: Clock | None = None, linger: float = 60.0) -> Ended:
    plan = judge.plan(view(fleet), "", APPS, linger)
    told: Any = lambda step, text, data: None  # noqa: E731
    work = Switchover(fleet, plan, clock or Clock(), told, {"actor": "ann"})  # type: ignore[arg-type]
    return work.carry_out(NAMES)


def on_all(verb: str, action: str) -> list[tuple[str, str, str]]:
    return [(host, verb, action) for host in APPS]


def test_the_order_of_a_switchover() -> None:
    fleet = DataFleet()
    ended = run(fleet)
    assert fleet.changes() == [
        *on_all("proxy", "hold"),
        ("db1", "database", "switchover"),
        *on_all("proxy", "shift"),
        *on_all("proxy", "release"),
        ("db1", "database", "home"),
    ]
    assert (ended.leader, ended.warnings, ended.cut) == ("db2", [], 0)
    assert all(fields["actor"] == "ann" for fields in fleet.sent)
    assert fleet.following == {}


def test_hosts_undo_it_by_themselves_only_after_we_would_have() -> None:
    fleet = DataFleet()
    run(fleet, linger=60)
    hold, hand_over = fleet.sent[0], fleet.sent[2]
    assert 60 < hold["seconds"] < hand_over["linger"]


def test_old_connections_get_time_to_end() -> None:
    fleet, clock = DataFleet(), Clock()
    fleet.sessions["stream1"] = 2

    def one_less() -> None:
        fleet.sessions["stream1"] -= 1

    clock.before_sleep = one_less
    assert run(fleet, clock).cut == 0
    assert clock.now == 4.0
    fleet = DataFleet()
    fleet.sessions["stream1"] = 2
    ended = run(fleet, linger=10)
    assert ended.cut == 2 and "cut off" in ended.warnings[0]


FAILED = HostError("x", "it says no", code="not_paused")
REFUSED = HostError("x", "it says no", code="lagging", exit_code=6)
LOST = Unreachable("x", "connection lost", code="lost")

CASES: dict[str, tuple[tuple[str, str, str], HostError, int, str, bool]] = {
    # which step fails: how, the exit code, what the state says, whether it was asked to hand over
    "one proxy": (("worker1", "proxy", "hold"), FAILED, 1, "nothing was handed over", False),
    "a proxy's guard": (("worker1", "proxy", "hold"), REFUSED, 6, "nothing was handed over", False),
    "a dead app host": (("stream1", "proxy", "hold"), LOST, 1, "nothing was handed over", False),
    "the leader": (("db1", "database", "switchover"), FAILED, 1, "proxies are released", True),
    "its guard": (("db1", "database", "switchover"), REFUSED, 6, "proxies are released", True),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_held_is_released_when_a_step_fails(name: str) -> None:
    step, error, code, state, asked = CASES[name]
    fleet = DataFleet()
    fleet.faults[step] = error
    with pytest.raises(BacklineError) as caught:
        run(fleet)
    assert caught.value.exit_code == code
    assert state in caught.value.state
    assert fleet.held == {} and fleet.leader == "db1"
    assert (("db1", "database", "switchover") in fleet.calls) is asked
    assert fleet.calls[-1][2] == "release"


@pytest.mark.parametrize("already", [False, True])
def test_a_hold_of_somebody_else_is_not_dropped(already: bool) -> None:
    """Their clients wait just now, and to release would end their connections."""
    fleet = DataFleet()
    if already:
        fleet.held_before = {"worker1"}
        fleet.faults["db1", "database", "switchover"] = REFUSED
    else:
        fleet.faults["worker1", "proxy", "hold"] = HostError("x", "held", code="held", exit_code=6)
    with pytest.raises(BacklineError) as caught:
        run(fleet)
    assert [host for host, _, action in fleet.calls if action == "release"] == ["stream1"]
    assert caught.value.exit_code == 6 and "no proxy" not in caught.value.state


LATER = {
    "shift": ("stream1", "proxy", "shift"),
    "release": ("stream1", "proxy", "release"),
    "home": ("db1", "database", "home"),
}


@pytest.mark.parametrize("name", LATER)
def test_after_the_hand_over_a_failure_is_told_and_the_rest_is_done(name: str) -> None:
    fleet = DataFleet()
    fleet.late_faults[LATER[name]] = FAILED
    ended = run(fleet)
    assert ended.leader == "db2" and len(ended.warnings) == 1
    assert fleet.held == {} and bool(fleet.following) is (name == "release")


def test_pgbouncer_stays_while_a_proxy_may_still_be_held() -> None:
    """An app host that nobody reaches serves on: its old connections would come to a standby."""
    fleet, clock = DataFleet(), Clock()
    fleet.sessions["worker1"] = 1
    clock.before_sleep = lambda: fleet.dead.add("stream1")
    ended = run(fleet, clock, linger=4)
    assert "worker1" not in fleet.held and fleet.following == {"db1": "db2"}
    assert ("db1", "database", "home") not in fleet.calls
    (said,) = [warning for warning in ended.warnings if "stream1" in warning]
    assert "lets go by itself" in said and "db1 comes home by itself" in said


def test_a_leader_that_goes_silent_after_it_handed_over() -> None:
    fleet = DataFleet()
    fleet.late_faults["db1", "database", "switchover"] = LOST
    ended = run(fleet)
    assert ended.leader == "db2" and "not known" in ended.warnings[0]
    assert fleet.shifted == dict.fromkeys(APPS, "db2")


def test_a_leader_that_goes_silent_before_it_handed_over() -> None:
    fleet = DataFleet()
    fleet.faults["db1", "database", "switchover"] = LOST
    with pytest.raises(BacklineError) as caught:
        run(fleet)
    assert "db1 leads" in caught.value.state
    assert fleet.held == {} and fleet.shifted == {}


@pytest.mark.parametrize(
    ("step", "held"),
    [
        (("worker1", "proxy", "hold"), False),
        (("db1", "database", "switchover"), True),
        (("stream1", "proxy", "shift"), True),
    ],
)
def test_ctrl_c_cuts_off_nobody_who_waits(step: tuple[str, str, str], held: bool) -> None:
    """In the middle of a hand-over, to release would end the connections that it is about."""
    fleet = DataFleet()
    fleet.faults[step] = KeyboardInterrupt()
    with pytest.raises(BacklineError) as caught:
        run(fleet)
    assert caught.value.exit_code == 130 and "by themselves within" in caught.value.state
    assert bool(fleet.held) is held


def _set(**values: Any) -> Callable[[DataFleet], None]:
    return lambda fleet: vars(fleet).update(values)


REFUSALS: dict[str, tuple[Callable[[DataFleet], None], str]] = {
    "nobody leads": (_set(leader=None), "nobody leads"),
    "in maintenance": (_set(paused=True), "maintenance"),
    "a member is ill": (lambda f: f.states.update(db3="start failed"), "db3: missing"),
    "a host is away": (lambda f: f.dead.add("db3"), "db3: missing"),
    "etcd has no majority": (lambda f: f.etcd.update(db2="ill", db3="ill"), "no majority"),
    "one is not over": (lambda f: f.following.update(db3="198.51.100.1"), "not come to its end"),
    "it lags": (lambda f: f.lags.update(db2=9_000_000), "9000000 bytes"),
    "nobody knows its lag": (lambda f: f.lags.update(db2="unknown"), "nobody knows"),
    "no synchronous standby": (_set(sync="db9"), "not the synchronous standby"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_risk_is_refused_and_nothing_is_held(name: str) -> None:
    arrange, words = REFUSALS[name]
    fleet = DataFleet()
    arrange(fleet)
    with pytest.raises(BacklineError, match=words) as caught:
        run(fleet)
    assert (caught.value.exit_code, caught.value.state) == (6, "nothing was changed")
    assert fleet.calls == [] and caught.value.hint


@pytest.mark.parametrize(("to", "leads"), [("", "db2"), ("db2", "db2"), ("db3", None), ("x", None)])
def test_who_takes_over(to: str, leads: str | None) -> None:
    if leads:
        assert judge.plan(view(DataFleet()), to, APPS, 1).candidate == leads
    else:
        with pytest.raises(BacklineError):
            judge.plan(view(DataFleet()), to, APPS, 1)


def test_without_synchronous_replication_the_closest_takes_over() -> None:
    fleet = DataFleet()
    fleet.sync, fleet.lags = None, {"db2": 4096, "db3": 0}
    assert judge.plan(view(fleet), "", APPS, 1).candidate == "db3"


def test_a_failover_is_for_a_leader_whose_host_is_gone() -> None:
    fleet = DataFleet()
    with pytest.raises(BacklineError, match="db1 leads") as caught:
        judge.failover(view(fleet), "", False)
    assert caught.value.exit_code == 6
    fleet.dead = {"db1"}
    assert judge.failover(view(fleet), "", False) == ("db2", "db2")
    fleet.states |= {"db2": "in archive recovery", "db3": "in archive recovery"}
    assert judge.failover(view(fleet), "", False) == ("db2", "db2"), "the leader's death did that"
    with pytest.raises(BacklineError, match="may lack commits"):
        judge.failover(view(fleet), "db3", False)
    assert judge.failover(view(fleet), "db3", True) == ("db3", "db3")
    fleet.dead = {"db1", "db2"}
    with pytest.raises(BacklineError, match="may lack commits"):
        judge.failover(view(fleet), "", False)


def test_troubles_are_told() -> None:
    fleet = DataFleet()
    assert view(fleet).troubles == []
    fleet.dead, fleet.leader, fleet.sync = {"db1"}, None, "db9"
    fleet.etcd = {"db1": "refused", "db2": "refused", "db3": "healthy"}
    fleet.following["db2"] = "198.51.100.1"
    said = " | ".join(view(fleet).troubles)
    for words in ("db1: no route", "nobody leads", "1 of 3 votes", "no synchronous", "db2 follows"):
        assert words in said


def test_no_host_answers() -> None:
    fleet = DataFleet()
    fleet.dead = set(NAMES)
    with pytest.raises(BacklineError, match="no database host can be reached"):
        view(fleet)
