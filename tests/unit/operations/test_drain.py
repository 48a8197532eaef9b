"""Draining: who may leave, when it is over, and what is left when something stands in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from service_fleet import OLD, SERVING, Fault, ServiceFleet

from backline.errors import BacklineError
from backline.operations.drain import judge
from backline.operations.drain.work import Drain
from backline.rollout.lease import Run


@pytest.fixture
def fleet() -> ServiceFleet:
    return ServiceFleet()


def refused(code: int, work: Any) -> BacklineError:
    with pytest.raises(BacklineError) as caught:
        work()
    assert caught.value.exit_code == code, caught.value.message
    return caught.value


def test_it_waits_until_every_edge_sends_nothing_new(fleet: ServiceFleet) -> None:
    told = fleet.drain("stream1")
    assert fleet.hosts["stream1"].drained and not fleet.hosts["stream2"].drained
    heard = [event.host for event in told if event.kind == "balance"]
    assert heard == ["edge1", "edge2"], "the slow one last"
    assert fleet.slow["edge2"] == 0
    assert fleet.hosts["stream1"].running["web"] == {OLD}, "requests under way need it"
    assert fleet.leased() == []


def test_the_flag_outlives_a_reboot_and_says_who_and_why(fleet: ServiceFleet) -> None:
    fleet.drain("stream1")
    fields = next(fields for _, verb, fields in fleet.calls if verb == "drain")
    assert fields["persist"] is True
    assert (fields["actor"], fields["message"]) == ("ann@desk", "new disks")


def test_the_last_host_that_serves_stays_unless_an_outage_is_wanted(fleet: ServiceFleet) -> None:
    fleet.up["stream2"] = False
    error = refused(6, lambda: fleet.drain("stream1"))
    assert "edge1" in error.message and "edge2" in error.message
    refused(6, lambda: fleet.drain(*SERVING))
    assert not fleet.hosts["stream1"].drained
    fleet.drain("stream1", outage=True)
    assert fleet.hosts["stream1"].drained


def test_who_serves_nobody_may_always_leave(fleet: ServiceFleet) -> None:
    fleet.up["stream1"] = False
    fleet.drain("stream1")


def test_without_an_edge_another_host_has_to_answer_and_not_be_drained(
    fleet: ServiceFleet,
) -> None:
    fleet.edges = ()
    refused(6, lambda: fleet.drain(*SERVING))
    fleet.dead = {"stream2"}
    refused(6, lambda: fleet.drain("stream1"))
    fleet.dead = set()
    fleet.drain("stream1")
    refused(6, lambda: fleet.drain("stream2"))
    fleet.drain("stream1")  # the same command again
    assert [host for host in SERVING if fleet.hosts[host].drained] == ["stream1"]
    fleet.drain("worker1")


def test_without_an_edge_two_drains_at_once_cannot_take_both_hosts(fleet: ServiceFleet) -> None:
    fleet.edges = ()
    late = fleet.see("stream1")
    fleet.drain("stream2")
    plan = replace(
        judge.drain(late, ("stream1",), SERVING, False), fences={"stream1": 8, "stream2": 8}
    )
    work = Drain(fleet, plan, Run("run-3", "jukebox", "bob"), fleet.clock, lambda event: None, 60.0)
    refused(6, lambda: work.out(SERVING, False))
    assert not fleet.hosts["stream1"].drained and fleet.leased() == []


def test_two_drains_at_once_cannot_take_both_hosts(fleet: ServiceFleet) -> None:
    """The other one, judged at the same moment, ends between our look and our lease."""
    plan = judge.drain(fleet.see("stream1"), ("stream1",), SERVING, False)
    fleet.drain("stream2")
    fresh = judge.drain(fleet.see("stream1"), ("stream1",), SERVING, True)
    assert set(plan.fences) == set(SERVING), "the lease of all who serve is needed"
    run = Run("run-3", "jukebox", "bob@desk")
    late = Drain(fleet, fresh, run, fleet.clock, lambda event: None, 60.0)
    refused(6, lambda: late.out(SERVING, False))
    assert not fleet.hosts["stream1"].drained
    assert fleet.leased() == []


def test_a_deploy_at_work_keeps_it_away(fleet: ServiceFleet) -> None:
    fleet.hosts["stream2"].lease = ("deploy-1", 7)
    fleet.hosts["stream2"].lease_ends = fleet.clock.now + 40
    refused(5, lambda: fleet.drain("stream1"))
    assert not fleet.hosts["stream1"].drained


def test_an_edge_that_never_confirms_ends_it_with_the_host_drained(fleet: ServiceFleet) -> None:
    fleet.slow["edge2"] = 10**9
    error = refused(1, lambda: fleet.drain("stream1", timeout=20))
    assert error.hosts == ("edge2",) and "stream1 is up" in error.message
    assert "drained" in error.state
    assert fleet.hosts["stream1"].drained and fleet.leased() == []
    assert sum(fleet.clock.slept) + fleet.clock.now - 1_800_000_000.0 >= 20


def test_an_edge_that_comes_back_in_time_is_waited_for(fleet: ServiceFleet) -> None:
    looks = 0

    def away_for_a_while(host: str, verb: str) -> None:
        nonlocal looks
        if (host, verb) == ("edge2", "balance") and fleet.hosts["stream1"].drained:
            looks += 1
            fleet.dead = {"edge2"} if looks < 5 else set()

    fleet.before_call = away_for_a_while
    fleet.drain("stream1")
    assert looks >= 5


def test_an_edge_that_is_dead_has_to_be_named(fleet: ServiceFleet) -> None:
    fleet.dead = {"edge1"}
    error = refused(1, lambda: fleet.drain("stream1"))
    assert "--skip edge1" in error.hint and not fleet.hosts["stream1"].drained


def test_workers_finish_and_stop_and_come_back_healthy(fleet: ServiceFleet) -> None:
    fleet.drain("worker1")
    assert fleet.hosts["worker1"].running == {"plays": set(), "beat": set()}
    stops = [fields for _, verb, fields in fleet.calls if verb == "stop"]
    assert all(fields["force"] and fields["deadline"] <= 60 for fields in stops)
    assert not [host for host, verb, _ in fleet.calls if verb == "balance"], "nobody is balanced"
    fleet.undrain("worker1")
    assert fleet.hosts["worker1"].running == {"plays": {OLD}, "beat": {OLD}}
    assert fleet.hosts["worker1"].checked == {("plays", OLD), ("beat", OLD)}
    assert not fleet.hosts["worker1"].drained


def test_jobs_that_do_not_end_are_told(fleet: ServiceFleet) -> None:
    fleet.faults = [Fault("stop", "stop_timeout", host="worker1")]
    error = refused(1, lambda: fleet.drain("worker1"))
    assert "stop_timeout" in error.message and fleet.hosts["worker1"].drained


def test_an_interruption_gives_the_leases_back_and_says_how_far_it_came(
    fleet: ServiceFleet,
) -> None:
    plan = judge.drain(fleet.see("stream1"), ("stream1",), SERVING, False)
    run = Run("run-1", "jukebox", "ann@desk")
    work = Drain(fleet, plan, run, fleet.clock, lambda event: None, 60.0)
    fleet.faults = [Fault("balance", "interrupt", host="edge2", nth=3)]
    with pytest.raises(KeyboardInterrupt):
        work.out(SERVING, False)
    assert work.so_far == "stream1 is drained"
    assert fleet.leased() == []


def test_a_host_that_is_ill_stays_drained(fleet: ServiceFleet) -> None:
    fleet.drain("stream1")
    fleet.faults = [Fault("check", "unhealthy", host="stream1")]
    error = refused(1, lambda: fleet.undrain("stream1"))
    assert "unhealthy" in error.message and fleet.hosts["stream1"].drained
    assert fleet.leased() == []


def test_it_is_back_when_every_edge_sends_requests(fleet: ServiceFleet) -> None:
    fleet.drain("stream1")
    fleet.up["stream1"] = False  # its checks have not passed yet
    began = fleet.clock.now

    def passes(host: str, verb: str) -> None:
        if fleet.clock.now > began + 5:
            fleet.up["stream1"] = True

    fleet.before_call = passes
    fleet.undrain("stream1")
    assert fleet.clock.now > began + 5


@pytest.mark.parametrize("where", ["worker", "edge"])
def test_a_host_in_quarantine_comes_back_by_a_deploy_alone(fleet: ServiceFleet, where: str) -> None:
    fleet.drain("stream1")
    if where == "edge":
        fleet.out = ["stream1"]
    else:
        fleet.hosts["stream2"].quarantine = {"stream1": {"why": "unhealthy", "at": 1}}
    error = refused(6, lambda: fleet.undrain("stream1"))
    assert "catchup" in error.hint and fleet.hosts["stream1"].drained


def test_a_host_without_the_app_has_nothing_to_drain(fleet: ServiceFleet) -> None:
    fleet.hosts["edge1"].facts = {"apps": {}}
    assert "fab restart" in refused(1, lambda: fleet.drain("edge1")).hint
