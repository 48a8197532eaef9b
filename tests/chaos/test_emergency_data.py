"""The data tier's emergencies, for real, each mended by its page's own commands: see test_emergencies.py.

Nothing that an application was told is safe gets lost on the way: its writers, and those who publish and do
jobs, keep logs of their own, and tests/data/judge.py reads them.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

import pytest

from backline.errors import BacklineError
from backline.lab.machine import podman
from tests.chaos.ending import patronictl, resumed, serves, tidy
from tests.chaos.test_services import _sleeper, as_the_app
from tests.data import cluster, faults
from tests.data.cluster import inside
from tests.data.conftest import data, podman_as_the_lab_has_it, whole
from tests.data.remote import wait_until
from tests.data.test_backup import LOOK, PROGRAM, backed_up, keeper
from tests.data.test_broker import brokers, whole_brokers
from tests.data.test_disk import lead
from tests.data.trial import Jobs, Trial
from tests.live import Fleet, run
from tests.reading import Page, follows

__all__ = ["backed_up", "brokers", "data", "podman_as_the_lab_has_it", "tidy", "whole"]

SIZE = "full"
ELECTED_S = 90.0
PARTED_S = 240.0
"""A broker that hears nothing believes for a minute and more that it is merely slow."""
MENDED_S = 420.0
MENDING = "We are mending it."


# The database's primary is lost.


@pytest.fixture
def paused(whole: Fleet) -> Iterator[Fleet]:
    """Somebody has put the cluster into maintenance, and went home."""
    patronictl(whole, cluster.leader(whole), "pause", "--wait")
    try:
        yield whole
    finally:
        faults.mend(whole)
        resumed(whole)


@follows("database-primary-lost", "First command", "1", "2", "It is over when", "Write down")
def test_another_one_leads_by_itself(whole: Fleet, page: Page) -> None:
    """Then the page has only to say so, and to keep hands off."""
    with Trial(whole, "emergency: the primary is killed") as trial:
        victim = cluster.leader(whole)
        with faults.killed(whole, victim):
            trial.back(ELECTED_S)
            leader = cluster.leader(whole)
            said = page.next("First command", ends=(1,)).out
            assert f"{leader} leads, synchronous; etcd 2 of 3 votes" in said and "!" in said
            assert "patroni" in page.next("1", ends=(1,)).out, "the others' journals"
            assert "leads and its host answers" in page.next("2", ends=(6,)).err
    cluster.settled(whole)
    whole_again, fleet = page.rest("It is over when")
    assert "sync standby" in whole_again.out and "3 of 3 votes" in whole_again.out
    assert victim in fleet.out
    assert '"patroni' in page.next("Write down").out
    trial.verdict.safe()


@follows("database-primary-lost", "First command", "4", "6")
def test_it_died_in_maintenance(paused: Fleet, page: Page) -> None:
    listener = paused.listener()
    victim, *others = _killed_in_maintenance(paused)
    page.names["DB"] = others[0]
    with faults.killed(paused, victim):
        _nobody_leads(paused)
        said = page.next("First command", ends=(1,)).out
        assert "NOBODY leads" in said and "etcd 2 of 3 votes" in said
        assert "in maintenance: Patroni fails nobody over" in said
        page.next("6")
        page.next("6")
        assert MENDING in listener.get("/")[1].decode()
        page.next("4")
        wait_until("another one leads", ELECTED_S, lambda: cluster.role(paused, "Leader"), every=1)
        assert cluster.leader(paused) != victim
        page.rest("6")
        serves(paused)
    cluster.settled(paused)


@follows("database-primary-lost", "2", "3.1")
def test_nobody_takes_over(paused: Fleet, page: Page) -> None:
    victim, *_ = _killed_in_maintenance(paused)
    row = _row(paused)
    standby = cluster.standby(paused)
    with faults.killed(paused, victim):
        _nobody_leads(paused)
        assert f"{standby} is to lead" in page.next("2").said
        assert cluster.role(paused, "Leader") == [], "it was a rehearsal"
        page.next("3.1")
        assert cluster.leader(paused) == standby
        assert cluster.sql(paused, f"SELECT id FROM fault_rows WHERE id = '{row}'") == [row]
        resumed(paused)
        serves(paused)
    cluster.settled(paused)


@follows("database-primary-lost", "2", "3.2")
def test_the_only_one_left_may_lack_commits(paused: Fleet, page: Page) -> None:
    """Nobody writes meanwhile, so that it lacks none, which only we can know."""
    page.names["NAME"] = "nobody"
    row, standby = _row(paused), cluster.standby(paused)
    victim, *_ = _killed_in_maintenance(paused)
    (last,) = {*paused.hosts("database")} - {victim, standby}
    with faults.killed(paused, victim), faults.away(paused, "patroni", standby):
        _nobody_leads(paused)
        wait_until("it is known to be gone", 60, lambda: standby not in cluster.members(paused), 1)
        assert f"{last} is not the synchronous standby" in page.next("2", ends=(6,)).err
        assert "MAY LACK" in page.next("3.2").said
        assert cluster.leader(paused) == last
        assert cluster.sql(paused, f"SELECT id FROM fault_rows WHERE id = '{row}'") == [row]
    resumed(paused)
    cluster.settled(paused)
    assert cluster.sql(paused, f"SELECT id FROM fault_rows WHERE id = '{row}'") == [row]


def _killed_in_maintenance(fleet: Fleet) -> list[str]:
    """(who leads and will be killed, the others)."""
    victim = cluster.leader(fleet)
    return [victim, *(host for host in fleet.hosts("database") if host != victim)]


def _nobody_leads(fleet: Fleet) -> None:
    """The leader's key runs out; its members are known still."""
    wait_until(
        "nobody leads",
        ELECTED_S,
        lambda: cluster.members(fleet) and not cluster.role(fleet, "Leader"),
        every=1,
    )


def _row(fleet: Fleet) -> str:
    row = f"emergency-{uuid.uuid4().hex}"
    cluster.sql(fleet, f"INSERT INTO fault_rows VALUES ('{row}')")
    return row


@follows("disk-full", "5")
def test_a_leader_hands_over_before_its_disk_is_full(whole: Fleet, page: Page) -> None:
    victim, folder = cluster.role(whole, "Replica")[0], "/var/lib/postgresql"
    with faults.Disk(whole, victim, folder, spare=512, units="patroni"):
        cluster.settled(whole)
        lead(whole, victim)
        with Trial(whole, "emergency: the leader's disk fills up") as trial:
            ballast = f"head -c 416M /dev/zero >{folder}/ballast"
            inside(whole, victim, "sh", "-ec", ballast)
            said = page.next("5").out
            assert folder in said and "tmpfs" in said
            assert f"{victim} hands over" in page.next("5").said
            page.next("5")
            assert cluster.leader(whole) != victim
            trial.back(30)
            inside(whole, victim, "rm", f"{folder}/ballast")
    cluster.settled(whole)
    trial.verdict.safe()
    trial.verdict.retried()


# The brokers are parted.


@follows("broker-partition", "First command", "1", "2", "3", "4", "It is over when", "Write down")
def test_a_broker_is_cut_off(brokers: Fleet, page: Page) -> None:
    *others, victim = brokers.hosts("broker")
    page.names |= {"OTHER": victim, "BROKER": victim}
    with Jobs(brokers, "emergency: a broker is cut off") as jobs:
        with faults.cut(brokers, victim, others=others):
            wait_until(
                "the others miss it",
                PARTED_S,
                lambda: "does not run" in _status(brokers) and _stopped(brokers, victim),
                every=3,
            )
            said = page.next("First command", ends=(1,)).out
            assert said.count("2 of 3") == len(others) and "no answer" in said
            reached = page.next("1", ends=(1,)).out
            assert "4369" in reached and "25672" in reached, "it does not reach itself"
            logs, certificates, _ = page.rest("2")
            assert victim in logs.out and "host" in certificates.out
            jobs.back(60)
        wait_until("it starts by itself", PARTED_S, lambda: whole_brokers(brokers), every=2)
        page.next("3")
        wait_until("it is back", PARTED_S, lambda: whole_brokers(brokers), every=2)
        assert page.next("3").out.count("3 of 3") == 3
        page.rest("4")
        jobs.back(60)
    assert page.next("It is over when").out.count("3 of 3") == 3
    page.rest("Write down")
    jobs.verdict.safe()


@follows("broker-partition", "First command", "It is over when")
def test_no_side_has_a_majority(brokers: Fleet, page: Page) -> None:
    """All stop themselves, and start again by themselves when they see each other."""
    hosts = brokers.hosts("broker")
    with Jobs(brokers, "emergency: every broker alone") as jobs:
        with contextlib.ExitStack() as cuts:
            for host in hosts[:2]:
                others = [other for other in hosts if other != host]
                cuts.enter_context(faults.cut(brokers, host, others=others))
            wait_until(
                "all have stopped themselves",
                PARTED_S,
                lambda: all(_stopped(brokers, host) for host in hosts),
                every=3,
            )
            said = page.next("First command", ends=(1,)).out
            assert said.count("no answer") >= 2 and "3 of 3" not in said
        # Two that heal one after the other may stay stopped: then each host starts its own anew.
        wait_until("they start by themselves", MENDED_S, lambda: stays_whole(brokers), every=5)
        jobs.back(120)
    page.rest("It is over when")
    jobs.verdict.safe()


def stays_whole(fleet: Fleet) -> bool:
    """Whether it is whole, and still is after a while: one that just came back may stop once more."""
    if not whole_brokers(fleet):
        return False
    time.sleep(10)
    return whole_brokers(fleet) and "SEES" in _status(fleet)


def _status(fleet: Fleet) -> str:
    return run("fab", "broker.status", "--env", fleet.env, expect=None).said


def _stopped(fleet: Fleet, host: str) -> bool:
    """Whether the host's RabbitMQ has stopped itself: its program runs, and nothing in it."""
    try:
        inside(fleet, host, "timeout", "30", "rabbitmqctl", "-q", "list_vhosts")
    except BacklineError:
        return True
    return False


# Rows are gone.

SLEEPS = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("select pg_sleep(900), 'deletes likes'")
"""
EXAMPLE = "2026-11-26T02:59:00+00:00"
COUNT, WRONG = 500, 400


@pytest.fixture
def likes(backed_up: Fleet) -> Iterator[str]:
    """A table of the application's; the moment before most of its rows are deleted."""
    fleet = backed_up
    made = (
        "SET ROLE jukebox; DROP TABLE IF EXISTS likes; CREATE TABLE likes (id int PRIMARY KEY); "
        f"INSERT INTO likes SELECT generate_series(1, {COUNT})"
    )
    cluster.sql(fleet, made)
    time.sleep(2)
    now = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
    (moment,) = cluster.sql(fleet, f"SELECT {now} || '+00:00'")
    time.sleep(2)
    delete = f"DELETE FROM likes WHERE id <= {WRONG}"
    words = ("--database", "jukebox", "--write", "--command", delete)
    run("fab", "db.psql", "--env", fleet.env, *words)
    cluster.sql(fleet, "INSERT INTO likes VALUES (1000)")
    # It takes a minute by itself, and that is what the page says.
    (segment,) = cluster.sql(fleet, "SELECT pg_walfile_name(pg_switch_wal())")
    archived = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver"
    wait_until("the archive has it", 60, lambda: cluster.sql(fleet, archived) == ["t"], every=1)
    yield moment
    with contextlib.suppress(BacklineError):
        inside(fleet, keeper(fleet), *PROGRAM, "drop", LOOK)
    cluster.settled(fleet)
    cluster.sql(fleet, "DROP TABLE IF EXISTS likes")
    for host in fleet.hosts("database"):
        aside = f"rm -rf /var/lib/postgresql/15/{cluster.DATABASE}.before-*"
        inside(fleet, host, "sh", "-c", aside)


@follows("restore-from-backup", "First command", "1", "2", "3", "5", "It is over when")
def test_rows_are_brought_back(backed_up: Fleet, page: Page, likes: str) -> None:
    """Beside first, and fetched back; then, since that was a rehearsal, the whole cluster in place."""
    fleet = backed_up
    look = LOOK.replace("fault-look", "look")
    page.names |= {
        EXAMPLE: likes,
        "/var/lib/backline-backup/look": LOOK,
        "BACKUP": keeper(fleet),
        "SCOPE": cluster.DATABASE,
        "TEXT": MENDING,
    }
    assert look in " ".join(page.left["2"]), "the page's folder is another one now"
    status, _, _, journal = page.rest("First command")
    assert "full" in status.out and "good" in status.out
    assert "DELETE FROM likes" in journal.out
    unit = f"deletes-{uuid.uuid4().hex[:8]}"
    as_the_app(fleet, SLEEPS, f"--unit={unit}")
    try:
        page.names["PID"] = _goes_on_deleting(fleet)
        assert page.names["PID"] in page.next("1").out
        page.next("1")
        page.next("1")
        assert _sleeper(fleet) is None
        page.rest("1")
    finally:
        fleet.on(fleet.hosts("worker")[0], f"sudo systemctl stop {unit}", expect=None)

    page.rest("2")
    assert str(COUNT) in page.next("3").out
    _fetched_back(fleet)
    assert _likes(fleet) == COUNT + 1, "what was written since is gone"

    listener = fleet.listener()
    page.next("5")
    assert MENDING in listener.get("/")[1].decode()
    page.next("5")
    assert _likes(fleet) == COUNT + 1, "it was a rehearsal"
    page.next("5")
    cluster.settled(fleet)
    for host in fleet.hosts("database"):
        assert _likes(fleet, host) == COUNT, "it is not as it was at that moment"
    *_, rows, backup = page.rest("It is over when")
    assert str(COUNT) in rows.out and "good" in backup.said
    cluster.amcheck(fleet)


def _goes_on_deleting(fleet: Fleet) -> str:
    """The number of the session that does."""
    wait_until("its session is seen", 30, lambda: _sleeper(fleet), every=1)
    found = _sleeper(fleet)
    assert found
    return str(found["pid"])


def _fetched_back(fleet: Fleet) -> None:
    """As docs/how-to/restore.md has it: out of the copy, read, and loaded; then the copy goes."""
    dump = ("pg_dump", "-h", f"{LOOK}/socket", "-p", "5498", "-U", "postgres", "-t", "likes")
    more = ("--data-only", "--inserts", "--on-conflict-do-nothing", cluster.DATABASE)
    text = inside(fleet, keeper(fleet), "runuser", "-u", "postgres", "--", *dump, *more)
    load = ("psql", "-XqU", "postgres", "-v", "ON_ERROR_STOP=1", "-d", cluster.DATABASE)
    leader = fleet.container(cluster.leader(fleet))
    podman("exec", "-i", leader, *load, data=text.encode())
    inside(fleet, keeper(fleet), *PROGRAM, "drop", LOOK)


def _likes(fleet: Fleet, host: str = "") -> int:
    return int(cluster.sql(fleet, "SELECT count(*) FROM likes", host)[0])
