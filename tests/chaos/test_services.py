"""What is typed at night about services: drained hosts, dead letters, sessions, maintenance, music."""

from __future__ import annotations

import hashlib
import json
import random
import shlex
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import CATALOGUE, Answer, Fleet, run

APP = (
    "sudo systemd-run --quiet --collect {how} --property=EnvironmentFile=/etc/jukebox/jukebox.env "
    "--property=User=jukebox --working-directory=/srv/jukebox/current/app "
    "/srv/jukebox/current/venv/bin/python manage.py shell -c {script}"
)
# A job that no worker can do: its moment is none.
POISON = """
from music.tasks import record_play
play = {{"play": "{job}", "listener": 1, "track": 1, "started_at": "never"}}
record_play.apply_async(task_id="{job}", kwargs=play)
"""
SLEEP = """
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("lock table music_track in access exclusive mode")
    cursor.execute("select pg_sleep(300), 's3cret of a listener'")
"""


def fab(fleet: Fleet, *words: str, expect: int | None = 0) -> Answer:
    """`fab … --json`, as a program types it."""
    return run("fab", *words, "--env", fleet.env, "--json", expect=expect)


def hostctl(fleet: Fleet, host: str, verb: str, **fields: Any) -> dict[str, Any]:
    command = f"printf %s {shlex.quote(json.dumps(fields))} | sudo hostctl {verb}"
    answer: dict[str, Any] = json.loads(fleet.on(host, command).out)
    return answer


def as_the_app(fleet: Fleet, script: str, how: str = "--wait --pipe") -> None:
    """Runs Python in the application, on a worker host."""
    fleet.on(fleet.hosts("worker")[0], APP.format(how=how, script=shlex.quote(script)))


def until(what: str, seconds: float, true: Callable[[], Any], every: float = 0.5) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)
    return found


def states(fleet: Fleet, server: str) -> set[str]:
    """What every edge thinks of a streaming host."""
    found = set()
    for edge in fleet.hosts("edge"):
        shown = hostctl(fleet, edge, "balance", action="show")["servers"]
        found |= {servers[server] for servers in shown.values() if server in servers}
    return found


def health(fleet: Fleet, host: str) -> str:
    ask = "curl -s -o /dev/null -w '%{http_code}' "
    return fleet.on(host, f"{ask} http://{fleet.address(host)}:8080/_health").out.strip()


def test_a_host_leaves_and_comes_back_and_no_listener_hears_it(fleet: Fleet) -> None:
    first, *others = fleet.hosts("streaming")
    crowd = fleet.crowd(fleet.listener())
    try:
        fab(fleet, "drain", first, "--message", "new disk")
        assert not states(fleet, first) & {"up", "starting"} and health(fleet, first) == "404"
        answer = fab(fleet, "drain", ",".join(others), expect=6)
        assert "nobody else who is up" in answer.last["message"]
        assert {health(fleet, host) for host in others} == {"200"}
        assert "new disk" in fleet.on(first, "sudo journalctl -t hostctl -n 50 -o json").out
        again = "systemd-tmpfiles --create /etc/tmpfiles.d/backline.drain.conf"
        fleet.on(first, f"sudo rm /run/backline/drain && sudo {again}")
        assert health(fleet, first) == "404", "it stays drained over a reboot"
        fab(fleet, "undrain", first)
        assert states(fleet, first) <= {"up", "starting"} and health(fleet, first) == "200"
    finally:
        fab(fleet, "undrain", first, expect=None)
        tally = crowd.stop()
    assert tally.requests > 100 and not tally.failures, tally.failures
    status = hostctl(fleet, first, "status", app="jukebox")
    assert status["lease"] is None


def test_what_dies_over_and_over_is_restarted_and_a_name_that_nobody_knows_is_refused(
    fleet: Fleet,
) -> None:
    host, unit = fleet.hosts("media")[0], f"flaps-{uuid.uuid4().hex[:8]}"
    words = ("restart", "--on", host, "--service", unit)
    answer = fab(fleet, *words, expect=None)
    assert answer.code == 1 and "runs on none of these hosts" in answer.out + answer.err
    assert fleet.on(host, "test -e /run/backline/drain", expect=None).code == 1
    rule = "--property=Restart=always --property=RestartSec=900"
    program = f"test -e /run/{unit} && exec sleep 900"
    fleet.on(host, f"sudo systemd-run --unit={unit} {rule} sh -c {shlex.quote(program)}")
    state = f"systemctl show {unit} --property ActiveState --value"
    try:
        until("it has died", 20, lambda: fleet.on(host, state).out.strip() == "activating")
        fleet.on(host, f"sudo touch /run/{unit}")
        rehearsed = fab(fleet, *words, "--dry-run").last
        assert rehearsed["hosts"][host]["changed"] == 1, "what would change is counted"
        assert fleet.on(host, state).out.strip() == "activating"
        fab(fleet, *words)
        assert fleet.on(host, state).out.strip() == "active"
        fleet.on(host, f"sudo rm /run/{unit} && sudo systemctl kill {unit}")
        until("it has died", 20, lambda: fleet.on(host, state).out.strip() == "activating")
        answer = fab(fleet, *words, expect=None)
        assert answer.code == 1 and unit in answer.out + answer.err, "it dies again"
    finally:
        fleet.on(host, f"sudo systemctl stop {unit}; sudo rm -f /run/{unit}", expect=None)
        fab(fleet, "restart", "--on", host, "--service", "nginx", expect=None)


def test_workers_rest_and_start_again(fleet: Fleet) -> None:
    worker = fleet.hosts("worker")[0]
    fab(fleet, "drain", worker)
    try:
        units = "systemctl list-units --plain --no-legend --state=active 'jukebox-*'"
        left = [line for line in fleet.on(worker, units).out.splitlines() if "web" not in line]
        assert left == []
        assert fab(fleet, "workers.status", expect=None).code == 1
        fab(fleet, "restart", "--on", worker)
        left = [line for line in fleet.on(worker, units).out.splitlines() if "web" not in line]
        assert left == [], "a restart started what rests"
    finally:
        fab(fleet, "undrain", worker)
    fab(fleet, "workers.status")


def test_one_pool_rests_over_a_restart_of_the_others(fleet: Fleet) -> None:
    worker = fleet.hosts("worker")[0]
    rows = [
        row for row in fab(fleet, "workers.status", "--on", worker).lines if row["event"] == "pool"
    ]
    pool = rows[0]["process"]
    active = "systemctl list-units --plain --no-legend --state=active 'jukebox-*'"
    fab(fleet, "workers.drain", worker, "--pool", pool)
    before = sorted(line.split()[0] for line in fleet.on(worker, active).out.splitlines())
    try:
        fab(fleet, "restart", "--on", worker)
        after = sorted(line.split()[0] for line in fleet.on(worker, active).out.splitlines())
        assert after == before
    finally:
        fab(fleet, "workers.drain", worker, "--pool", pool, "--undo")
    fab(fleet, "workers.status")


def test_a_pool_does_more_jobs_at_once_until_that_is_taken_back(fleet: Fleet) -> None:
    rows = fab(fleet, "workers.status").lines
    pool = next(row for row in rows if row["event"] == "pool")
    name, before = pool["process"], pool["inventory"]
    try:
        fab(fleet, "workers.scale", name, "--children", str(before + 2))
        rows = [r for r in fab(fleet, "workers.status").lines if r.get("process") == name]
        assert {(row["children"], row["processes"]) for row in rows} == {(before + 2, before + 2)}
    finally:
        fab(fleet, "workers.scale", name, "--reset")
    rows = [r for r in fab(fleet, "workers.status").lines if r.get("process") == name]
    assert {row["processes"] for row in rows} == {before}


def dead(fleet: Fleet, job: str) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = fab(fleet, "workers.dead", "--job", job).lines
    return next((row for row in found if row["event"] == "letter"), None)


def test_a_job_that_nobody_can_do_is_kept_and_goes_round_again(fleet: Fleet) -> None:
    job = str(uuid.uuid4())
    as_the_app(fleet, POISON.format(job=job))
    letter = until("it is a dead letter", 60, lambda: dead(fleet, job))
    assert (letter["task"], letter["queue"]) == ("music.record_play", "plays")
    assert letter["why"] == "rejected" and abs(time.time() - letter["at"]) < 300
    assert dead(fleet, job) == letter, "looking changes nothing"
    answer = fab(fleet, "workers.requeue", "--job", job, "--dry-run").last
    assert answer["kinds"][0]["count"] == 1
    assert fab(fleet, "workers.requeue", "--job", job).last["moved"] == 1
    again = until("it died once more", 60, lambda: dead(fleet, job))
    assert again["requeued"] == 1
    # It stays in `dead`: nobody can do it.


def test_a_session_that_holds_all_others_up_is_found_and_ended(fleet: Fleet) -> None:
    unit = f"hangs-{uuid.uuid4().hex[:8]}"
    as_the_app(fleet, SLEEP, f"--unit={unit}")
    waits = f"--unit={unit}-waits"
    try:
        row = until("it is seen", 30, lambda: _sleeper(fleet))
        assert "s3cret" not in row["query"] and row["protected"] is None
        as_the_app(fleet, "from music.models import Track; Track.objects.count()", waits)
        tree = until("somebody waits", 30, lambda: _waiting(fleet, row["pid"]))
        assert "music_track" in tree["wants"]
        fab(fleet, "db.kill", str(row["pid"]), "--message", "holds up all of them")
        until("it has ended", 30, lambda: _sleeper(fleet) is None)
        until("nobody waits", 30, lambda: fab(fleet, "db.locks").out == "")
    finally:
        worker = fleet.hosts("worker")[0]
        fleet.on(worker, f"sudo systemctl stop {unit} {unit}-waits", expect=None)


def _sleeper(fleet: Fleet) -> dict[str, Any] | None:
    answer = fab(fleet, "db.slow")
    rows = answer.lines if answer.out else []
    mine = [row for row in rows if row["event"] == "session" and "pg_sleep" in row["query"]]
    return mine[0] if mine else None


def _waiting(fleet: Fleet, pid: int) -> dict[str, Any] | None:
    answer = fab(fleet, "db.locks")
    rows = answer.lines if answer.out else []
    return next((row for row in rows if pid in row["by"]), None)


def test_what_keeps_the_cluster_together_is_not_killed(fleet: Fleet) -> None:
    query = "select pid from pg_stat_activity where application_name like 'Patroni%'"
    leader = next(row for row in fab(fleet, "db.status", expect=None).lines if row.get("leader"))
    host = next(h for h in fleet.hosts("database") if h == leader["leader"])
    pid = fleet.on(host, f'sudo psql -U postgres -Atc "{query}"').out.split()[0]
    fab(fleet, "db.kill", pid, "--terminate", expect=6)


def test_a_table_is_vacuumed(fleet: Fleet) -> None:
    rows = fab(fleet, "db.vacuum", "--database", "jukebox", "--by", "size").lines
    assert any(row["name"] == "music_track" for row in rows)
    answer = fab(fleet, "db.vacuum", "--table", "public.music_track", "--database", "jukebox")
    assert abs(time.time() - answer.last["vacuumed"]) < 300


@pytest.fixture
def page(fleet: Fleet) -> Iterator[str]:
    said = f"Back soon {uuid.uuid4().hex} <b>& well</b>"
    yield said
    fab(fleet, "maintenance.off", expect=None)


def test_listeners_read_the_page_on_all_edges_and_then_hear_music_again(
    fleet: Fleet, page: str
) -> None:
    listener = fleet.listener()
    fab(fleet, "maintenance.on", "--message", page, "--until", "90m")
    for disturbance in ("true", "sudo systemctl reload haproxy", "sudo systemctl restart haproxy"):
        for edge in fleet.hosts("edge"):
            fleet.on(edge, disturbance)
        time.sleep(2)
        status, body, kind = listener.get("/")
        assert status == 503 and kind.startswith("text/html"), disturbance
        assert page.partition(" <")[0] in body.decode() and "<b>& well" not in body.decode()
    assert {health(fleet, host) for host in fleet.hosts("streaming")} == {"200"}
    assert all(states(fleet, host) <= {"up", "starting"} for host in fleet.hosts("streaming"))
    kept = fab(fleet, "maintenance.status").lines[0]["kept"]
    assert kept["message"] == page and "@" in kept["actor"]
    fab(fleet, "maintenance.off")
    until("the application answers", 20, lambda: listener.get("/")[0] == 200)


def test_a_folder_is_brought_to_the_origins_once(fleet: Fleet, tmp_path: Path) -> None:
    name = f"sync-{uuid.uuid4().hex}.wav"
    content = random.Random(3).randbytes(300_000)
    (tmp_path / name).write_bytes(content)
    assert name in fab(fleet, "media.sync", str(tmp_path), "--dry-run").out
    origin = fleet.hosts("media")[0]
    fleet.on(origin, f"test -e /srv/media/{name}", expect=1)
    fab(fleet, "media.sync", str(tmp_path))
    digest = hashlib.sha256(content).hexdigest()
    assert digest in fleet.on(origin, f"sha256sum /srv/media/{name}").out
    again = fab(fleet, "media.sync", str(tmp_path)).lines
    assert not [row for row in again if row["event"] == "change"]


def test_a_file_is_dropped_from_every_cache_while_it_is_heard(fleet: Fleet) -> None:
    song = CATALOGUE[0]
    crowd = fleet.crowd(fleet.listener())
    try:
        path = song["file"]
        time.sleep(5)
        kept = fab(fleet, "media.purge", path, "--dry-run").lines
        assert all(row["files"] > 0 for row in kept), "it has been heard on every host"
        dropped = fab(fleet, "media.purge", path).lines
        assert all(row["files"] > 0 for row in dropped)
        time.sleep(5)
        assert all(row["files"] > 0 for row in fab(fleet, "media.purge", path, "--dry-run").lines)
    finally:
        tally = crowd.stop()
    assert not tally.failures, tally.failures
