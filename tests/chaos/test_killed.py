"""The operator's terminal goes away, or `fab` is killed, in the middle of what is typed at night.

Then no process that it started is left on any host, here neither; what is half done is told of by whoever
looks next; and the same command, or the one that is named, brings it to an end. docs/how-to/killed.md
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backline import places
from backline.lab.machine import podman
from tests.chaos.started import QUIET, at, cut_off, dies, held, mine, names, nothing_left, typed
from tests.chaos.test_services import fab, until
from tests.live import Answer, Fleet, build, run

APP = "jukebox"
LEASE = 90.0
"""A lease that nobody renews any more ends within a minute."""
WAYS = ["hangup twice", "kill"]
BIG = """
drop table if exists public.killed;
create table public.killed with (autovacuum_enabled = off)
  as select g, repeat('x', 200) as t from generate_series(1, 200000) g;
delete from public.killed where g % 2 = 0;
"""


def row(fleet: Fleet, host: str) -> dict[str, Any]:
    rows = fab(fleet, "status", "--on", host, expect=None).lines
    return next(entry for entry in rows if entry["host"] == host)


def again(fleet: Fleet, *words: str, seconds: float = LEASE) -> Answer:
    """The same command once more; while the lease of the one before lives, it is refused with 5."""
    answers: list[Answer] = []

    def done() -> bool:
        answers.append(fab(fleet, *words, expect=None))
        assert answers[-1].code in (0, 5), f"{words}: {answers[-1].out}\n{answers[-1].err}"
        return answers[-1].code == 0

    until(f"fab {' '.join(words)} goes on", seconds, done, every=5)
    return answers[-1]


def killed_restart(fleet: Fleet, host: str) -> None:
    """A restart that is over, and left its lease and a drained host."""
    drained = "cat /run/backline/drain"
    cut_off(fleet, "kill", ("restart", "--on", host), lambda: at(fleet, host, drained))
    nothing_left(fleet, 90)


def python_on(fleet: Fleet, host: str) -> bool:
    """Whether something of a playbook runs there."""
    return any(line.startswith(f"{host}: ") and "python" in line for line in mine(fleet))


@pytest.fixture(autouse=True)
def quiet(fleet: Fleet) -> None:
    """Nobody else is at work: what is found afterwards is ours."""
    nothing_left(fleet, 90)


# Those that look.


LOOKS: list[tuple[str, ...]] = [
    ("run", "sleep 300", "--on", "all"),
    ("logs", "--follow", "--on", "all"),
    ("status", "--watch", "--interval", "0.2"),
    ("db.slow",),
    ("db.locks",),
    ("workers.status",),
    ("workers.dead",),
    ("media.purge", "no/such/album/*"),
    ("releases",),
    ("certs",),
    ("doctor",),
]


@pytest.mark.parametrize("words", LOOKS, ids=lambda words: words[0])
def test_what_looks_leaves_nothing(fleet: Fleet, words: tuple[str, ...]) -> None:
    """Each is held up on a host as soon as anything of it runs there; hung up or killed in turn."""
    how = WAYS[LOOKS.index(words) % 2]
    with typed(fleet, *words) as terminal, held(fleet, terminal):
        dies(terminal, how)
    nothing_left(fleet)


def test_a_closed_lid_leaves_nothing(fleet: Fleet) -> None:
    """The laptop sleeps: no connection is closed, and nothing answers. sshd notices within 90 s
    of the last line that it had to send."""
    looking = [
        ("run", "sleep 900", "--on", "all", "--timeout", "900"),
        ("logs", "--follow", "--on", "all"),
        ("db.psql", "--command", "select pg_sleep(600)", "--seconds", "600"),
    ]
    with ExitStack() as stack:
        asleep = [stack.enter_context(typed(fleet, *words)) for words in looking]
        until(
            "all of them run", 60, lambda: sleeping(fleet) and len(mine(fleet)) > len(names(fleet))
        )
        time.sleep(3)
        for terminal in asleep:
            os.killpg(terminal.process.pid, signal.SIGSTOP)
        nothing_left(fleet, 240)
        until("PostgreSQL has noticed, too", 15, lambda: not sleeping(fleet))


def sleeping(fleet: Fleet) -> str:
    sql = "select pid from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'"
    return "".join(psql(fleet, host, sql) for host in fleet.hosts("database"))


def psql(fleet: Fleet, host: str, sql: str, database: str = "postgres") -> str:
    words = f"runuser -u postgres -- psql -XqAt -d {database}"
    return podman("exec", "-i", fleet.container(host), "sh", "-c", words, data=sql.encode()).strip()


# The database.


@pytest.fixture
def slow_vacuum(fleet: Fleet) -> Iterator[str]:
    """A table that takes a minute to vacuum; the host that leads."""
    rows = fab(fleet, "db.status", expect=None).lines
    leader = next(str(entry["leader"]) for entry in rows if entry.get("leader"))
    psql(fleet, leader, BIG, APP)
    psql(fleet, leader, "alter role postgres set vacuum_cost_limit = 1")
    yield leader
    psql(fleet, leader, "alter role postgres reset vacuum_cost_limit")
    psql(fleet, leader, "drop table if exists public.killed", APP)


@pytest.mark.parametrize("how", WAYS)
def test_a_vacuum_ends_with_its_operator(fleet: Fleet, slow_vacuum: str, how: str) -> None:
    vacuums = partial(psql, fleet, slow_vacuum, "select pid from pg_stat_progress_vacuum")
    words = ("db.vacuum", "--table", "public.killed", "--database", APP)
    cut_off(fleet, how, words, vacuums)
    until("PostgreSQL has ended it", QUIET, lambda: not vacuums())
    nothing_left(fleet)
    psql(fleet, slow_vacuum, "alter role postgres reset vacuum_cost_limit")
    assert fab(fleet, *words).last["dead"] == 0


@pytest.mark.parametrize("how", WAYS)
def test_a_switchover_undoes_by_itself_what_it_held(fleet: Fleet, how: str) -> None:
    """Proxies are held and PgBouncer is turned elsewhere: all of it is let go within two minutes."""
    if len(fleet.hosts("database")) < 3:
        pytest.skip("it takes three databases: --env a full lab")
    users = sorted({*fleet.hosts("streaming"), *fleet.hosts("worker")})

    def held(host: str) -> bool:
        said = json.loads(at(fleet, host, 'echo \'{"action": "status"}\' | hostctl proxy'))
        return bool(said["held"] or said["undone_by_itself"])

    def members() -> list[dict[str, Any]]:
        return [m for m in fab(fleet, "db.status", expect=None).lines if m["event"] == "member"]

    def whole() -> bool:
        return fab(fleet, "db.status", expect=None).code == 0

    until("the cluster is whole", 120, whole, every=3)  # the one before switched over, too
    cut_off(fleet, how, ("db.switchover", "--linger", "5"), lambda: held(users[0]))
    nothing_left(fleet, 100)  # who hands over does so to its end
    until("no proxy is held", 200, lambda: not any(held(host) for host in users), every=3)
    poolers = [m["pgbouncer"] for m in members()]
    until("PgBouncer is at home", 200, lambda: all(
        not m["pgbouncer"].get("paused") and not m["pgbouncer"].get("following") for m in members()
    ), every=5)  # fmt: skip
    assert poolers and sum(m["role"] in ("leader", "primary") for m in members()) == 1
    until("the cluster is whole again", 120, whole, every=3)
    fab(fleet, "db.switchover", "--linger", "5")


@pytest.mark.parametrize(("task", "job"), [("db.backup", "diff"), ("db.drill", "drill")])
def test_a_backup_goes_on_in_its_unit_and_is_told_of(fleet: Fleet, task: str, job: str) -> None:
    keeper = fleet.hosts("backup")[0]
    unit = f"systemctl is-active backline-backup@{job}.service"
    cut_off(fleet, "kill", (task,), lambda: at(fleet, keeper, unit).strip() == "activating")
    nothing_left(fleet)
    until("it is over", 400, lambda: at(fleet, keeper, unit).strip() == "inactive", every=2)
    rows = fab(fleet, "db.status", expect=None).lines
    (state,) = [entry for entry in rows if entry.get("job") == job]
    assert state["good"], state


# Hosts, by playbooks.


def trail(fleet: Fleet) -> dict[str, Any]:
    """The last entry of the audit trail's commands."""
    last: dict[str, Any] = run("fab", "audit.show", "--commands", "--env", fleet.env, "--json").last
    return last


def told_of(fleet: Fleet, how: str, words: tuple[str, ...]) -> str:
    """What is known of a playbook that was cut off, wherever somebody may look; its run."""
    entry = trail(fleet)
    assert entry["command"].startswith(f"fab {words[0]} "), entry
    assert entry["exit_code"] == (None if how == "kill" else 130), entry
    for command in (("doctor", "--local"), ("status",)):
        answer = run("fab", *command, "--env", fleet.env, expect=None)
        said = " ".join((answer.out + answer.err).split())
        assert f"`fab {words[0]} " in said and "was cut off" in said, said
    kept = places.cache() / "provision" / f"{fleet.env}.begun"
    return f"patch-{json.loads(kept.read_text().splitlines()[-1])['run']}"


def not_told_of(fleet: Fleet, host: str) -> None:
    found = row(fleet, host)
    assert (found["drained"], found["upkeep"], found.get("lease")) == (False, None, None), found
    assert "was cut off" not in run("fab", "doctor", "--local", "--env", fleet.env, expect=None).out
    assert trail(fleet)["exit_code"] == 0


@pytest.mark.parametrize("how", WAYS)
def test_a_restart_is_told_of_and_goes_on_at_once(fleet: Fleet, how: str) -> None:
    host = fleet.hosts("streaming")[0]
    words = ("restart", "--on", host)
    with undrained(fleet, host):
        cut_off(fleet, how, words, lambda: at(fleet, host, "cat /run/backline/drain"))
        nothing_left(fleet, 90)
        name = told_of(fleet, how, words)
        found = row(fleet, host)
        assert (found["drained"], found["drained_by"], found["upkeep"]) == (True, name, name)
        (lease,) = run("fab", "lock", "--env", fleet.env, "--json").lines
        assert lease["run"] == name and "@" in lease["holder"] and lease["ends_in"] > 120
        fab(fleet, *words)  # it does not wait for that lease
        not_told_of(fleet, host)


def test_the_lease_of_a_playbook_that_was_cut_off_can_be_freed(fleet: Fleet) -> None:
    """By who typed it: then the host may be put back without going on."""
    host = fleet.hosts("streaming")[-1]
    with undrained(fleet, host):
        killed_restart(fleet, host)
        assert fab(fleet, "undrain", host, expect=None).code == 5
        fab(fleet, "lock.release", "--yes", "1")
        fab(fleet, "undrain", host)
        fab(fleet, "restart", "--on", host)
        not_told_of(fleet, host)


@pytest.mark.parametrize("how", WAYS)
def test_dpkg_is_not_broken_off(fleet: Fleet, how: str) -> None:
    """Half an upgrade would be worse than one that nobody looks at: it ends by itself."""
    host = fleet.hosts("streaming")[0]
    words = (
        "patch",
        "--on",
        host,
        "--reboots",
        "never",
        "--reinstall",
        "nginx,ca-certificates,tzdata",
    )
    with undrained(fleet, host):
        cut_off(fleet, how, words, lambda: at(fleet, host, "pgrep -x dpkg"), within=400)
        until("dpkg is done", 180, lambda: not at(fleet, host, "pgrep -x 'dpkg|apt-get'"))
        nothing_left(fleet, 60)
        assert at(fleet, host, "dpkg --audit") == ""
        found = row(fleet, host)
        assert found["upkeep"] == told_of(fleet, how, words)
        assert found["vitals"]["held_back"] is False or "packages" in " ".join(found["troubles"])
        fab(fleet, *words)
        assert row(fleet, host)["vitals"]["held_back"] is False
        not_told_of(fleet, host)


def test_a_provision_is_told_of_and_goes_on(fleet: Fleet) -> None:
    host = fleet.hosts("worker")[0]
    words = ("provision", "--on", host, "--tags", "hostctl")
    cut_off(fleet, "kill", words, lambda: python_on(fleet, host))
    nothing_left(fleet, 90)
    told_of(fleet, "kill", words)
    fab(fleet, *words)
    not_told_of(fleet, host)


@contextmanager
def undrained(fleet: Fleet, host: str) -> Iterator[None]:
    """Whatever goes wrong, the host serves again when the block is over."""
    try:
        yield
    finally:
        if at(fleet, host, "cat /run/backline/drain /var/lib/backline/upkeep"):
            fab(fleet, "lock.release", "--force", "--message", "a test", "--yes", "1", expect=None)
            fab(fleet, "restart", "--on", host, expect=None)
            fab(fleet, "undrain", host, expect=None)


# Hosts, pools, edges and files, one after the other.


@pytest.mark.parametrize("how", WAYS)
def test_a_drain_stays_and_names_who_it_was(fleet: Fleet, how: str) -> None:
    host = fleet.hosts("streaming")[0]
    with undrained(fleet, host):
        cut_off(fleet, how, ("drain", host), lambda: at(fleet, host, "cat /run/backline/drain"))
        nothing_left(fleet)
        found = row(fleet, host)
        assert found["drained"] and found["drained_by"] and found["upkeep"] is None
        again(fleet, "drain", host)
        cut_off(
            fleet, how, ("undrain", host), lambda: not at(fleet, host, "cat /run/backline/drain")
        )
        nothing_left(fleet)
        again(fleet, "undrain", host)
        assert row(fleet, host)["drained"] is False


@pytest.mark.parametrize("how", WAYS)
def test_a_pool_that_is_being_scaled_says_what_it_lacks(fleet: Fleet, how: str) -> None:
    host = fleet.hosts("worker")[0]
    pools = [entry for entry in fab(fleet, "workers.status").lines if entry.get("children")]
    pool, children = str(pools[0]["process"]), int(pools[0]["children"]) + 1
    words = ("workers.scale", pool, "--children", str(children), "--on", host)
    kept = f"grep -s {pool} /etc/backline/apps/{APP}/scale.json"
    try:
        cut_off(fleet, how, words, lambda: at(fleet, host, kept))
        nothing_left(fleet, 120)  # who waits for its jobs does so
        seen = fab(fleet, "workers.status", expect=None).lines
        mine_ = next(e for e in seen if e.get("process") == pool and e.get("host") == host)
        assert mine_["children"] == children and mine_["inventory"] == children - 1
        again(fleet, *words)
        well = lambda: fab(fleet, "workers.status", expect=None).code == 0  # noqa: E731
        until("all pools answer", 60, well, every=3)
    finally:
        again(fleet, "workers.scale", pool, "--reset", "--on", host)


@pytest.mark.parametrize("how", WAYS)
def test_the_maintenance_page_says_who_put_it_on(fleet: Fleet, how: str) -> None:
    edge = fleet.hosts("edge")[0]
    there = "grep -s '^site on' /etc/haproxy/maintenance.map"
    try:
        with typed(fleet, "maintenance.on", "--message", "a test") as terminal:
            until("an edge shows it", 60, lambda: at(fleet, edge, there), every=0.02)
            terminal.die(how)
        nothing_left(fleet, 60)
        shown = fab(fleet, "maintenance.status", expect=None)
        assert shown.code in (0, 3) and "@" in shown.lines[0]["kept"]["actor"]
    finally:
        fab(fleet, "maintenance.off")
    assert not any(entry["on"] for entry in fab(fleet, "maintenance.status").lines)


def test_a_song_is_never_half_published(fleet: Fleet, tmp_path: Path) -> None:
    origin = fleet.hosts("media")[0]
    content = random.Random(8).randbytes(64 * 1024 * 1024)
    name = f"killed-{int(time.time())}.wav"
    (tmp_path / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    try:
        cut_off(
            fleet,
            "kill",
            ("media.sync", str(tmp_path)),
            lambda: python_on(fleet, origin),
        )
        nothing_left(fleet, 90)
        there = at(fleet, origin, f"sha256sum /srv/media/{name} 2>/dev/null")
        assert there.split()[:1] in ([], [digest])
        told_of(fleet, "kill", ("media.sync",))
        fab(fleet, "media.sync", str(tmp_path))
        assert at(fleet, origin, f"sha256sum /srv/media/{name}").split()[0] == digest
    finally:
        at(fleet, origin, f"rm -f /srv/media/{name}")


@pytest.mark.parametrize("how", WAYS)
def test_a_deploy_is_told_of_and_resumed(fleet: Fleet, how: str) -> None:
    """tests/rollout kills it at every event; here its terminal goes away."""
    release = build(f"2.0.{int(time.time()) % 100000}")
    users = sorted({*fleet.hosts("streaming"), *fleet.hosts("worker")})
    host = fleet.hosts("streaming")[0]
    words = ("deploy", "--release", release, "--soak", "0")
    started = f"ls /run/{APP}/{release}.sock 2>/dev/null"
    cut_off(fleet, how, words, lambda: at(fleet, host, started), within=400)
    nothing_left(fleet, 120)  # a verb that was begun comes to its end
    rows = run("fab", "lock", "--env", fleet.env, "--json", expect=None).lines
    assert any(entry.get("unfinished") or entry["event"] == "unfinished" for entry in rows), rows
    run("fab", "deploy.resume", "--env", fleet.env, "--yes", str(len(users)))
    rows = fab(fleet, "status", expect=None).lines
    assert {entry["current"] for entry in rows if entry.get("app")} == {release}
    run("fab", "rollback", "--env", fleet.env, "--yes", str(len(users)))
