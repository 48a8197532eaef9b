"""Hosts that stand still, networks that are cut, a majority that is lost: never do two take writes.

There is no watchdog in the lab, so a PostgreSQL whose Patroni stands still goes on as a primary that nobody
can demote. What keeps it from doing harm is synchronous replication: its standby became the new primary
and will never confirm another commit of the old one, so that no client is told that its row is safe. The
proxy on each application host leaves it besides. Both are looked at here: the old server is asked for
writes all along, by its own socket too, and every answer counts.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import pytest

from tests.data import cluster, faults
from tests.data.remote import wait_until
from tests.data.trial import Trial
from tests.live import Fleet
from tests.rollout.faults import frozen as paused

SIZE = "full"
TTL_S, RETRY_S = 20.0, 5.0
# The lock runs out (ttl), a standby asks everybody, the silent one twice (retry_timeout), it is promoted,
# proxies see it, clients connect anew.
ELECTED_S = TTL_S + 2 * RETRY_S + 10.0
LONGER_S = 10.0
"""How long a fault stays after another host has taken over: the old one has to stand it all the time."""


def test_patroni_stands_still_on_the_primary(whole: Fleet) -> None:
    with Trial(whole, "Patroni frozen on the primary") as trial:
        victim = cluster.leader(whole)
        with faults.frozen(whole, "patroni", victim):
            wait_until("another one leads", 2 * ELECTED_S, lambda: _led_by_others(whole, victim))
            trial.back(ELECTED_S)
            since = time.monotonic()
            time.sleep(LONGER_S)
            alive = cluster.sql(whole, "SELECT pg_is_in_recovery()", victim)
            assert alive == ["f"], "the old primary was no danger: this proved nothing"
            assert victim not in trial.writable(since)
            assert len(trial.writable(since)) == 1
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= ELECTED_S


def _led_by_others(fleet: Fleet, victim: str) -> bool:
    leads = cluster.role(fleet, "Leader")
    return bool(leads) and victim not in leads


def test_the_primary_s_host_stands_still_and_goes_on_later(whole: Fleet) -> None:
    """Thawed, it believes for a moment that it leads, with the connections that it had."""
    with Trial(whole, "primary host frozen") as trial:
        victim = cluster.leader(whole)
        with paused(whole, victim):
            trial.back(2 * ELECTED_S)
            time.sleep(LONGER_S)
        since = time.monotonic()
        time.sleep(LONGER_S)
        assert victim not in trial.writable(since)
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= ELECTED_S


CUTS = {
    "both ways": (("in", "out"), False),
    "nothing gets in": (("in",), False),
    "nothing gets out": (("out",), False),
    # Applications still reach it: the old primary has every opportunity to take their writes.
    "from the other database hosts alone": (("in", "out"), True),
}


@pytest.mark.parametrize("kind", CUTS)
def test_the_primary_is_cut_off(whole: Fleet, kind: str) -> None:
    ways, peers = CUTS[kind]
    with Trial(whole, f"primary cut off, {kind}") as trial:
        victim = cluster.leader(whole)
        others = [host for host in whole.hosts("database") if host != victim] if peers else []
        with faults.cut(whole, victim, ways, others):
            trial.back(2 * ELECTED_S)
            since = time.monotonic()
            time.sleep(LONGER_S)
            assert victim not in trial.writable(since)
            assert len(trial.writable(since)) == 1
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= ELECTED_S


@pytest.mark.parametrize("kind", ["stopped", "frozen"])
def test_etcd_loses_its_quorum(whole: Fleet, kind: str) -> None:
    """Failsafe mode: the primary reaches every member, so nobody else can lead, and writes go on."""
    with Trial(whole, f"etcd quorum lost, {kind}") as trial:
        before = cluster.leader(whole)
        others = [host for host in whole.hosts("database") if host != before]
        fault: AbstractContextManager[None] = (
            faults.away(whole, "etcd", *others)
            if kind == "stopped"
            else faults.frozen(whole, "etcd", *others)
        )
        with fault:
            time.sleep(2 * TTL_S)
            since = time.monotonic()
            time.sleep(LONGER_S)
            assert trial.writable(since) == {before}
        trial.back(60)
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= RETRY_S


def test_the_majority_is_lost_and_nobody_takes_writes(whole: Fleet) -> None:
    """Two of three hosts are gone: the third cannot know whether they live, and stops; all come back."""
    with Trial(whole, "two of three hosts killed") as trial:
        before = cluster.leader(whole)
        others = [host for host in whole.hosts("database") if host != before]
        with faults.stopped(whole, *others):
            time.sleep(TTL_S + 2 * RETRY_S)
            since = time.monotonic()
            time.sleep(LONGER_S)
            assert trial.writable(since) == set()
        trial.back(120)
    trial.verdict.safe()
