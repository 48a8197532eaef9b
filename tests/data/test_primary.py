"""The primary dies, its PostgreSQL dies, or it hands over: nothing is lost, and writes are back.

`$BACKLINE_KILLS` says how often the host is killed; 20 times by default.
"""

from __future__ import annotations

import os

import pytest

from tests.data import cluster, faults
from tests.data.trial import Trial
from tests.live import Fleet, run

SIZE = "full"
KILLS = int(os.environ.get("BACKLINE_KILLS", "20"))
PROCESS_KILLS = min(KILLS, 3)
SWITCHOVERS = min(KILLS, 3)
STANDBY_KILLS = min(KILLS, 3)
HOST_S, PROCESS_S, SWITCHOVER_S = 30.0, 6.0, 5.0
# The connection to it ends (tcp_user_timeout, 5 s), Patroni sees it (loop_wait, 2 s) and takes the other one.
STANDBY_S = 12.0


@pytest.mark.parametrize("number", range(1, KILLS + 1))
def test_the_primary_s_host_is_killed(whole: Fleet, number: int) -> None:
    with Trial(whole, "primary host killed") as trial:
        victim = cluster.leader(whole)
        with faults.killed(whole, victim):
            trial.back(2 * HOST_S)
            assert cluster.leader(whole) != victim
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= HOST_S


@pytest.mark.parametrize("number", range(1, PROCESS_KILLS + 1))
def test_the_primary_s_postgresql_is_killed(whole: Fleet, number: int) -> None:
    """It does not wait for the crashed one: the standby takes over."""
    with Trial(whole, "postgres process killed") as trial:
        victim = cluster.leader(whole)
        pid = "/var/lib/postgresql/15/jukebox/postmaster.pid"
        cluster.inside(whole, victim, "sh", "-ec", f"kill -9 $(head -1 {pid})")
        trial.back(60)
        assert cluster.leader(whole) != victim
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= PROCESS_S


@pytest.mark.parametrize("number", range(1, STANDBY_KILLS + 1))
def test_the_host_of_the_synchronous_standby_is_killed(whole: Fleet, number: int) -> None:
    """It leads etcd, too. The primary stays one: commits wait for a moment, and nobody sees an error."""
    with Trial(whole, "synchronous standby's host killed", retries=(0, 0)) as trial:
        primary, victim = cluster.leader(whole), cluster.standby(whole)
        cluster.lead_etcd(whole, victim)
        started = cluster.sql(whole, "SELECT pg_postmaster_start_time()", primary)
        with faults.killed(whole, victim):
            trial.back(60)
            assert cluster.leader(whole) == primary
        assert cluster.sql(whole, "SELECT pg_postmaster_start_time()", primary) == started
    trial.verdict.safe()
    trial.verdict.silent()
    assert trial.verdict.clients.pause <= STANDBY_S


@pytest.mark.parametrize("number", range(1, SWITCHOVERS + 1))
def test_a_planned_switchover_is_seen_by_no_client(whole: Fleet, number: int) -> None:
    """Clients that keep a connection for a minute and never retry wait for a moment, and get no error."""
    with Trial(whole, "planned switchover", retries=(0, 0)) as trial:
        before = cluster.leader(whole)
        switchover = ("fab", "db.switchover", "--env", whole.env)
        (plan,) = run(*switchover, "--dry-run", "--json").lines
        run(*switchover, "--yes", str(len(plan["hosts"])), timeout=300)
        trial.back(30)
        assert cluster.leader(whole) != before
    trial.verdict.safe()
    trial.verdict.silent()
    assert trial.verdict.clients.pause <= SWITCHOVER_S
