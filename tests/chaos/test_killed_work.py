"""The operator's terminal goes away in the middle of what is typed once, and matters: see test_killed.py.

Each is held up on a host while it dies. Afterwards it is done or not done, never both and never half, and
the same command brings it to its end.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from backline.inventory import load
from tests.chaos.started import at, cut_off, dies, held, nothing_left, switched_on, typed
from tests.chaos.test_killed import (
    WAYS,
    again,
    killed_restart,
    not_told_of,
    quiet,
    row,
    told_of,
    undrained,
)
from tests.chaos.test_services import POISON, SLEEP, _sleeper, as_the_app, dead, fab, until
from tests.live import Fleet, build, run

__all__ = ["quiet"]

BACK_S = 240.0


def cut(fleet: Fleet, how: str, *words: str, doing: str = "") -> None:
    """Ends a command in the middle of what it does on a host."""
    with typed(fleet, *words) as terminal, held(fleet, terminal, doing):
        dies(terminal, how)


@pytest.fixture
def hangs(fleet: Fleet) -> Iterator[int]:
    """A session of the application's that does not end by itself; its number."""
    unit = f"hangs-{uuid.uuid4().hex[:8]}"
    as_the_app(fleet, SLEEP, f"--unit={unit}")
    try:
        yield until("it is seen", 30, lambda: _sleeper(fleet))["pid"]
    finally:
        fleet.on(fleet.hosts("worker")[0], f"sudo systemctl stop {unit}", expect=None)


@pytest.mark.parametrize("how", WAYS)
def test_a_session_is_ended_or_not(fleet: Fleet, hangs: int, how: str) -> None:
    words = ("db.kill", str(hangs), "--message", "a test")
    cut(fleet, how, *words)
    nothing_left(fleet)
    if _sleeper(fleet):
        fab(fleet, *words)
    until("it has ended", 30, lambda: _sleeper(fleet) is None)


@pytest.mark.parametrize("how", WAYS)
def test_no_letter_is_lost(fleet: Fleet, how: str) -> None:
    """It goes round again, or lies there still; who looks finds it."""
    job = str(uuid.uuid4())
    as_the_app(fleet, POISON.format(job=job))
    until("it is a dead letter", 60, lambda: dead(fleet, job))
    cut(fleet, how, "workers.requeue", "--job", job)
    nothing_left(fleet, 90)
    until("it is a dead letter still, or again", 60, lambda: dead(fleet, job))
    assert fab(fleet, "workers.requeue", "--job", job).last["moved"] >= 1
    until("it died once more", 60, lambda: dead(fleet, job))


@pytest.mark.parametrize("how", WAYS)
def test_a_job_is_revoked_by_the_same_command(fleet: Fleet, how: str) -> None:
    words = ("workers.revoke", str(uuid.uuid4()))
    cut(fleet, how, *words)
    nothing_left(fleet, 60)
    fab(fleet, *words)


@pytest.mark.parametrize("how", WAYS)
def test_pools_that_were_told_to_rest_say_so(fleet: Fleet, how: str) -> None:
    host = fleet.hosts("worker")[0]
    try:
        cut(fleet, how, "workers.drain", host)
        nothing_left(fleet, 120)  # who waits for its jobs does so
        again(fleet, "workers.drain", host)
        pools = [e for e in fab(fleet, "workers.status", expect=None).lines if e.get("children")]
        assert {e["active"] for e in pools if e["host"] == host} == {"inactive"}
        cut(fleet, how, "workers.drain", host, "--undo")
        nothing_left(fleet, 120)
    finally:
        again(fleet, "workers.drain", host, "--undo")
    until(
        "all pools answer", 60, lambda: fab(fleet, "workers.status", expect=None).code == 0, every=3
    )


@pytest.mark.parametrize("how", WAYS)
def test_a_lease_is_freed_or_not(fleet: Fleet, how: str) -> None:
    host = fleet.hosts("streaming")[-1]
    with undrained(fleet, host):
        killed_restart(fleet, host)
        cut(fleet, how, "lock.release", "--yes", "1")
        nothing_left(fleet)
        fab(fleet, "lock.release", "--yes", "1")
        assert run("fab", "lock", "--env", fleet.env, "--json").out == ""
        fab(fleet, "undrain", host)
        fab(fleet, "restart", "--on", host)
        not_told_of(fleet, host)


@pytest.mark.parametrize("how", WAYS)
def test_a_reboot_is_told_of_and_goes_on(fleet: Fleet, how: str) -> None:
    """Hung up as the host leaves; killed as it goes down."""
    host = fleet.hosts("streaming")[0]
    words = ("reboot", "--on", host)
    before = switched_on(fleet, host)

    def middle() -> bool:
        if how == "kill":
            return switched_on(fleet, host) != before
        return at(fleet, host, "cat /run/backline/drain") != ""

    with undrained(fleet, host):
        cut_off(fleet, how, words, middle, within=300)
        until("it is up", BACK_S, lambda: row(fleet, host).get("vitals"), every=3)
        nothing_left(fleet, 90)
        name = told_of(fleet, how, words)
        found = row(fleet, host)
        assert (found["drained"], found["upkeep"]) == (True, name)
        fab(fleet, *words)
        assert switched_on(fleet, host) != before
        not_told_of(fleet, host)


def test_a_restore_beside_leaves_a_folder_and_the_cluster_as_it_is(fleet: Fleet) -> None:
    keeper = fleet.hosts("backup")[0]
    folder = "/var/lib/backline-backup/killed-look"
    words = ("db.restore", "--to", "newest", "--folder", folder)
    drop = f"runuser -u postgres -- /usr/local/lib/backline/backup drop {folder}"
    try:
        cut_off(fleet, "kill", words, lambda: at(fleet, keeper, f"ls -d {folder}"), within=300)
        copy = f"ls {folder}/socket/.s.PGSQL.*"
        until("it has come to its end there", BACK_S, lambda: at(fleet, keeper, copy), every=2)
        assert fab(fleet, "db.status").code == 0
        at(fleet, keeper, drop)  # the copy runs until then, so that somebody can look into it
        nothing_left(fleet)
        fab(fleet, *words)
    finally:
        at(fleet, keeper, drop)


def test_a_rollback_is_told_of_and_resumed(fleet: Fleet) -> None:
    """tests/rollout kills it at every event; here its terminal goes away."""
    users = sorted({*fleet.hosts("streaming"), *fleet.hosts("worker")})
    before = str(row(fleet, users[0])["current"])
    release = build(f"2.1.{int(time.time()) % 100000}")
    count = ("--yes", str(len(users)))
    run("fab", "deploy", "--release", release, "--soak", "0", "--env", fleet.env, *count)
    cut(fleet, "hangup twice", "rollback", doing="hostctl rollback")
    nothing_left(fleet, 120)
    rows = run("fab", "lock", "--env", fleet.env, "--json", expect=None).lines
    assert any(entry.get("unfinished") or entry["event"] == "unfinished" for entry in rows), rows
    run("fab", "deploy.resume", "--env", fleet.env, *count)
    rows = fab(fleet, "status", expect=None).lines
    assert {entry["current"] for entry in rows if entry.get("app")} == {before}


def test_known_hosts_is_the_old_one_or_the_new_one(fleet: Fleet) -> None:
    """Killed later and later, until it is over."""
    place = load(fleet.env).known_hosts
    whole = place.read_text()
    first, *others = whole.splitlines(keepends=True)
    lacking = "".join(others)
    seen = set()
    try:
        for tenths in range(2, 40, 2):
            place.write_text(lacking)
            with typed(fleet, "hosts.trust", "--yes", "1") as terminal:
                time.sleep(tenths / 10)
                terminal.process.kill()
                killed = terminal.process.wait(10) != 0
            now = sorted(place.read_text().splitlines())
            assert now in (sorted(lacking.splitlines()), sorted(whole.splitlines())), tenths
            seen.add(killed)
            if not killed:
                break
        assert seen == {True, False}
        assert first in place.read_text()
    finally:
        place.write_text(whole)
