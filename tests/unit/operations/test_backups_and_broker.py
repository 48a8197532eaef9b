"""Backups that are followed to their end, and what the brokers say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from data_fleet import Clock, DataFleet

from backline.console import show_broker
from backline.errors import BacklineError
from backline.operations import backups, broker
from backline.transport.port import HostError, Outcome, Unreachable

GOOD = {"good": True, "ended": 100.0, "succeeded": 100.0}
BAD = {"good": False, "ended": 100.0, "succeeded": 50.0, "phase": "restore", "why": "no room"}


def follow(fleet: DataFleet, said: list[str], clock: Clock | None = None) -> backups.Job:
    return backups.run(fleet, "backup1", "drill", clock or Clock(), said.append, {})  # type: ignore[arg-type]


def running(*log: str) -> dict[str, Any]:
    return {"running": True, "log": list(log), "cursor": "c1", "result": {}}


def test_a_job_is_followed_to_its_end_and_each_line_is_told_once() -> None:
    fleet, said = DataFleet(), list[str]()
    fleet.follows = [
        running("== restore"),
        running(),
        {**running("done"), "running": False, "result": GOOD},
    ]
    assert follow(fleet, said).good
    assert said == ["== restore", "done"]
    assert [fields.get("cursor") for fields in fleet.sent] == [None, "c0", "c1", "c1"]


def test_a_job_that_fails_says_in_which_phase_and_why() -> None:
    fleet = DataFleet()
    fleet.running_already = True
    fleet.follows = [{**running(), "running": False, "result": BAD}]
    said: list[str] = []
    with pytest.raises(BacklineError, match="drill failed: restore: no room"):
        follow(fleet, said)
    assert "already" in said[0]


def test_a_job_that_leaves_no_result_is_no_good_one() -> None:
    fleet = DataFleet()
    fleet.follows = [{**running(), "running": False}]
    with pytest.raises(BacklineError, match="left no result"):
        follow(fleet, [])


def test_who_was_killed_left_the_result_of_the_run_before() -> None:
    """Out of memory, out of time, or its host booted: last week's drill says nothing of this one."""
    fleet = DataFleet()
    fleet.ended_before = GOOD["ended"]
    fleet.follows = [running(), {**running(), "running": False, "result": GOOD}]
    with pytest.raises(BacklineError, match="drill failed: it left no result") as caught:
        follow(fleet, [])
    assert caught.value.exit_code == 1
    fleet.follows = [{**running(), "running": False, "result": {**GOOD, "ended": 200.0}}]
    assert follow(fleet, []).good


def test_a_short_silence_is_borne_and_a_long_one_is_told() -> None:
    fleet, clock = DataFleet(), Clock()
    key = ("backup1", "backup", "follow")
    fleet.faults[key] = Unreachable("backup1", "lost", code="lost")

    def mended() -> None:
        if clock.now > 20:
            fleet.faults.pop(key, None)

    clock.before_sleep = mended
    fleet.follows = [{**running(), "running": False, "result": GOOD}]
    assert follow(fleet, [], clock).good
    fleet.faults[key] = Unreachable("backup1", "lost", code="lost")
    with pytest.raises(BacklineError, match="does not answer any more") as caught:
        follow(fleet, [])
    assert "goes on there" in caught.value.state


def test_jobs_as_their_host_tells_of_them() -> None:
    fleet = DataFleet()
    fleet.jobs = {"full": {**GOOD, "running": False}, "drill": {**BAD, "running": True}}
    jobs = {job.name: job for job in backups.collect(fleet, "backup1")}  # type: ignore[arg-type]
    assert (jobs["full"].good, jobs["full"].ran, jobs["diff"].ran) == (True, True, False)
    assert (jobs["drill"].why, jobs["drill"].running) == ("restore: no room", True)


@pytest.mark.parametrize("hosts", [(), ("a", "b")])
def test_one_host_keeps_the_backups(hosts: tuple[str, ...]) -> None:
    with pytest.raises(BacklineError):
        backups.keeper({"backup": hosts})
    assert backups.keeper({"backup": ("a",)}) == "a"


BROKERS = ("broker1", "broker2", "broker3")


def answer(running: int, **over: Any) -> Outcome[Any]:
    nodes = [f"rabbit@{host}" for host in over.pop("hosts", BROKERS)]
    found = {"members": nodes, "running": nodes[:running], "alarms": [], "partitions": {}}
    return Outcome({**found, "queues": [], "critical": None, "unknown": None, **over})


def row(name: str, messages: int = 0, *, leads: bool = False, copy: bool = True) -> dict[str, Any]:
    load = {"messages": messages, "unacknowledged": 1 if messages else 0, "consumers": 2}
    return {"vhost": "/", "name": name, "leads": leads, "copy": copy, **load}


def led(name: str, messages: int = 0, copies: int = 3) -> dict[str, dict[str, Any]]:
    """What each broker says of a queue that the first one leads; with no copies, one of its own."""
    told = {BROKERS[0]: row(name, messages, leads=True, copy=copies > 0)}
    return told | {host: row(name) for host in BROKERS[1:copies]}


def cluster(hosts: Sequence[str], *queues: dict[str, dict[str, Any]], **over: Any) -> Any:
    """What each host says of a cluster that all of them are members of, and that has these queues."""
    return {
        host: answer(
            len(hosts),
            hosts=hosts,
            queues=[told[host] for told in queues if host in told],
            **over,
        )
        for host in hosts
    }


def three(*queues: dict[str, dict[str, Any]]) -> dict[str, Outcome[Any]]:
    return cluster(BROKERS, *queues)


def test_brokers_that_are_well() -> None:
    view = broker.view_of(three(led("plays", 12), led("dead"), led("pidbox", copies=0)))
    assert view.troubles == []
    plays = view.queues[2]
    assert (plays.leader, plays.unacknowledged, plays.consumers) == ("broker1", 1, 2)
    assert [(q.name, q.messages, q.online, q.kind, q.dead) for q in view.queues] == [
        ("dead", 0, 3, "quorum", True),
        ("pidbox", 0, 0, "classic", False),
        ("plays", 12, 3, "quorum", False),
    ]


def test_what_only_the_leader_of_a_queue_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """Its host is cut off: the others have copies, and no idea of what lies in it."""
    outcomes = three(led("plays", 7))
    outcomes["broker1"] = Outcome(error=HostError("broker1", "RabbitMQ does not answer"))
    view = broker.view_of(outcomes)
    assert (view.queues[0].leader, view.queues[0].online) == ("", 2)
    show_broker(view)
    assert "plays quorum ? ? ? 2" in " ".join(capsys.readouterr().out.split())


def test_celerys_own_queues_are_shown_when_something_is_the_matter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_broker(
        broker.view_of(
            three(
                led("celery_delayed_1"),
                led("celery_delayed_2", 5),
                led("celery_delayed_3", copies=2),
                led("worker@a.celery.pidbox", copies=0),
                led("plays"),
            )
        )
    )
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    brokers = ["BROKER", *BROKERS, "QUEUE"]
    assert shown == [*brokers, "celery_delayed_2", "celery_delayed_3", "plays", "!"]


def test_what_is_wrong_with_brokers_is_told_once() -> None:
    alarm = {"alarms": ["memory on rabbit@broker2"]}
    silent: Outcome[Any] = Outcome(error=HostError("broker3", "RabbitMQ does not answer"))
    outcomes = {
        "broker1": answer(2, queues=[row("plays.dead", 3, leads=True)], **alarm),
        "broker2": answer(
            1, partitions={"a": ["b"]}, unknown="no metrics", critical="plays", **alarm
        ),
        "broker3": silent,
    }
    assert broker.view_of(outcomes).troubles == [
        "rabbit@broker3 does not run",
        "alarm: memory on rabbit@broker2",
        "broker2: no metrics",
        "rabbit@broker2 does not run",
        "broker2 sees a partition",
        "broker2 may not stop: queues depend on it",
        "broker3: RabbitMQ does not answer",
        "3 dead letters in plays.dead",
    ]


def test_a_broker_that_is_in_no_cluster_with_the_others() -> None:
    """It misses none of its members: only the inventory knows that there are more."""
    outcomes = three(led("plays"))
    outcomes |= cluster(["broker3"])
    assert broker.view_of(outcomes).troubles == [
        "broker3 knows 1 of the 3 brokers",
        "plays has not all 3 copies up",
    ]


def test_queues_that_lack_a_copy_are_told_of_and_many_in_one_line() -> None:
    few, many = ([led(f"q{number}", copies=2) for number in range(count)] for count in (3, 12))
    view = broker.view_of(three(led("plays"), *few))
    assert view.troubles == [f"q{number} has not all 3 copies up" for number in range(3)]
    view = broker.view_of(three(led("plays"), *many))
    assert view.troubles == ["12 queues have fewer than 3 copies up, such as q0"]


def test_copies_on_a_broker_that_does_not_tell_are_not_missed() -> None:
    outcomes = three(led("plays", copies=2))
    outcomes["broker3"] = answer(3, unknown="no metrics")
    assert broker.view_of(outcomes).troubles == ["broker3: no metrics"]


def test_queues_of_more_brokers_have_three_copies_all_the_same() -> None:
    view = broker.view_of(cluster([*BROKERS, "broker4", "broker5"], led("plays")))
    assert (view.queues[0].online, view.troubles) == (3, [])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_brokers_are_well_though_none_may_stop(count: int) -> None:
    told = led("plays", copies=count)
    view = broker.view_of(cluster(BROKERS[:count], told, critical="queue plays"))
    assert (view.queues[0].online, view.troubles) == (count, [])


def test_of_three_brokers_each_may_stop_when_all_is_well() -> None:
    view = broker.view_of(cluster(BROKERS, led("plays"), critical="queue plays"))
    assert view.troubles == [f"{host} may not stop: queues depend on it" for host in BROKERS]


@pytest.mark.parametrize(
    ("name", "dead"),
    [
        ("dead", True),
        ("plays.dead", True),
        ("dead-letters", True),
        ("deadmau5", False),
        ("undead", False),
    ],
)
def test_queues_of_dead_letters(name: str, dead: bool) -> None:
    view = broker.view_of({"broker1": answer(3, queues=[row(name, 1, leads=True)])})
    assert view.queues[0].dead is dead
