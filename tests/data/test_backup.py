"""The restore drill is green, and red for every reason that it should be; a moment can be gone back to."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backline.errors import BacklineError
from tests.data import cluster, faults, remote, summary
from tests.data.cluster import inside
from tests.data.remote import wait_until
from tests.live import Fleet, run

SIZE = "full"
STATE = "/var/lib/backline-backup"
PROGRAM = ("runuser", "-u", "postgres", "--", "/usr/local/lib/backline/backup")
LOOK = f"{STATE}/fault-look"
FLIP = (
    "import sys; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); at = f.tell() // 2; f.seek(at);"
    " byte = f.read(1)[0]; f.seek(at); f.write(bytes([byte ^ 1]))"
)


def keeper(fleet: Fleet) -> str:
    """The host that keeps the repository."""
    hosts = fleet.hosts("backup")
    assert hosts, "no host of this lab is in the group backup"
    return hosts[0]


def job(fleet: Fleet, name: str) -> dict[str, Any]:
    """Runs a job as its timer does; what it left in its state file."""
    host = keeper(fleet)
    began = time.time()
    good = True
    try:
        inside(fleet, host, "systemctl", "start", f"backline-backup@{name}", timeout=900)
    except BacklineError:
        good = False
    state: dict[str, Any] = json.loads(inside(fleet, host, "cat", f"{STATE}/{name}.json"))
    assert state["began"] >= began - 1, f"{name} has not run: {state}"
    assert state["good"] == good, state
    return state


def archive(fleet: Fleet) -> dict[str, float]:
    """What the leader tells Prometheus of its archive."""
    host = cluster.leader(fleet)
    inside(fleet, host, "systemctl", "start", "backline-archive-metrics")
    told = inside(fleet, host, "cat", "/var/lib/prometheus/node-exporter/backline_archive.prom")
    return {line.split()[0]: float(line.split()[1]) for line in told.splitlines() if line[0] != "#"}


def folder(fleet: Fleet) -> str:
    """Of the repository."""
    script = "grep -rhs '^repo1-path=' /etc/pgbackrest /etc/pgbackrest.conf | head -1 | cut -d= -f2"
    path = inside(fleet, keeper(fleet), "sh", "-c", script).strip()
    assert path.startswith("/"), "where is the repository?"
    return path


def newest(fleet: Fleet, pattern: str, number: int = 1) -> str:
    """The file of the repository that fits, the `number`th from the end."""
    find = f"find {folder(fleet)} -type f -path '*{pattern}' -printf '%T@ %p\\n'"
    listed = inside(fleet, keeper(fleet), "sh", "-ec", f"{find} | sort -n").splitlines()
    assert len(listed) >= number, f"no {pattern} in the repository"
    return listed[-number].split(" ", 1)[1]


@pytest.fixture(scope="module")
def backed_up(data: Fleet) -> Fleet:
    """A fleet with a backup of its newest timeline."""
    assert job(data, "full")["good"]
    return data


def test_the_drill_is_green(backed_up: Fleet) -> None:
    state = job(backed_up, "drill")
    assert state["good"], state
    assert state["details"]["tables"] >= 1
    took = state["ended"] - state["began"]
    summary.note("restore drill, all well", good=True, seconds=round(took, 1))


def test_a_byte_of_the_repository_is_flipped(backed_up: Fleet) -> None:
    path = newest(backed_up, "backup/jukebox/*F/bundle/*")
    host = keeper(backed_up)
    inside(backed_up, host, "python3", "-c", FLIP, path)
    try:
        state = job(backed_up, "drill")
    finally:
        inside(backed_up, host, "python3", "-c", FLIP, path)
    summary.note("restore drill, a byte flipped", good=state["good"], phase=state["phase"])
    assert not state["good"] and state["succeeded"] > 0, state
    assert job(backed_up, "drill")["good"], "it is as it was"


def test_wal_is_missing(backed_up: Fleet) -> None:
    """Three segments after the newest backup; the middle one is lost."""
    host = keeper(backed_up)
    for number in range(3):
        cluster.sql(backed_up, f"INSERT INTO fault_rows VALUES ('wal-{time.time()}-{number}')")
        assert job(backed_up, "check")["good"]
    lost = newest(backed_up, "archive/jukebox/15-*/*-*.zst", number=2)
    name = lost.rpartition("/")[2]
    inside(backed_up, host, "mv", lost, f"/root/{name}")
    try:
        state = job(backed_up, "drill")
    finally:
        inside(backed_up, host, "mv", f"/root/{name}", lost)
    summary.note("restore drill, WAL missing", good=state["good"], phase=state["phase"])
    assert not state["good"] and name[:24] in state["why"], state
    assert job(backed_up, "drill")["good"], "it is as it was"


def test_the_repository_is_full(backed_up: Fleet) -> None:
    """Red while it is; writes go on; everything catches up by itself when there is room."""
    fleet = backed_up
    with faults.Disk(
        fleet, keeper(fleet), folder(fleet), spare=64, units="pgbackrest-server"
    ) as disk:
        disk.fill()
        state = job(fleet, "drill")
        summary.note("restore drill, repository full", good=state["good"], phase=state["phase"])
        assert not state["good"], state
        assert archive(fleet)["backline_archive_waiting_segments"] > 0
        row = f"full-{time.time()}"
        assert cluster.sql(fleet, f"INSERT INTO fault_rows VALUES ('{row}') RETURNING id") == [row]
        disk.empty()
        caught = wait_until(
            "the archive has all",
            120,
            lambda: archive(fleet)["backline_archive_waiting_segments"] == 0,
            every=2,
        )
        summary.note("archive caught up after a full repository", seconds=round(caught, 1))
        assert job(fleet, "drill")["good"]
    assert job(fleet, "drill")["good"]


@pytest.fixture
def dropped(backed_up: Fleet) -> Iterator[str]:
    """Where the restored copy goes, which is gone afterwards."""
    yield LOOK
    with contextlib.suppress(BacklineError):
        inside(backed_up, keeper(backed_up), *PROGRAM, "drop", LOOK)


def two_rows(fleet: Fleet, mark: str) -> str:
    """Writes two rows, and returns a moment between them."""
    cluster.sql(fleet, f"INSERT INTO fault_rows VALUES ('{mark}-first')")
    time.sleep(2)
    zoned = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00'"
    (moment,) = cluster.sql(fleet, zoned)
    time.sleep(2)
    cluster.sql(fleet, f"INSERT INTO fault_rows VALUES ('{mark}-second')")
    return moment


def test_a_moment_between_two_rows_is_gone_back_to(backed_up: Fleet, dropped: str) -> None:
    fleet = backed_up
    mark = f"pitr-{time.time()}"
    moment = two_rows(fleet, mark)
    words = ("restore_mode=beside", f"restore_to={moment}", f"restore_folder={dropped}")
    began = time.monotonic()
    fleet.playbook("restore", *(part for word in words for part in ("-e", word)))
    took = time.monotonic() - began
    ask = f"SELECT id FROM fault_rows WHERE id LIKE '{mark}-%' ORDER BY id"
    psql = ("psql", "-XAt", "-h", f"{dropped}/socket", "-p", "5498", "-U", "postgres")
    look = ("runuser", "-u", "postgres", "--", *psql, "-d", cluster.DATABASE, "-c", ask)
    there = inside(fleet, keeper(fleet), *look).split()
    assert there == [f"{mark}-first"]
    assert cluster.sql(fleet, ask) == [f"{mark}-first", f"{mark}-second"], "the cluster goes on"
    summary.note("restored to a moment, beside", seconds=round(took, 1), rows="first, not second")


def test_the_cluster_is_replaced_by_what_it_was_between_two_rows(
    backed_up: Fleet, tmp_path: Path
) -> None:
    """The last test of this file: nothing of what others wrote meanwhile is left."""
    fleet = backed_up
    mark = f"replaced-{time.time()}"
    moment = two_rows(fleet, mark)
    members = fleet.hosts("database")
    before = cluster.leader(fleet)
    words = ("fab", "db.restore", "--env", fleet.env, "--to", moment, "--replace", cluster.DATABASE)
    refused = run(*words, "--yes", str(len(members) - 1), expect=None)
    assert refused.code == 6, refused.err
    assert cluster.leader(fleet) == before, "refused, and touched"
    began = time.monotonic()
    run(*words, "--yes", str(len(members)), timeout=1800)
    took = time.monotonic() - began
    cluster.settled(fleet)
    ask = f"SELECT id FROM fault_rows WHERE id LIKE '{mark}-%' ORDER BY id"
    for host in members:
        assert cluster.sql(fleet, ask, host) == [f"{mark}-first"], host
    cluster.amcheck(fleet)
    # The application signs in with the passwords of now, through its proxy.
    writes = remote.as_the_app(fleet, fleet.hosts("streaming")[0], "writer", mark, "1", "0", "0.1")
    writer = remote.Remote(writes, tmp_path / "writer.jsonl")
    writer.start()
    wait_until(
        "the application writes", 60, lambda: [e for e in writer.entries() if e["what"] == "ack"]
    )
    writer.stop()
    kept = f"ls -d /var/lib/postgresql/15/{cluster.DATABASE}.before-*"
    (aside,) = inside(fleet, before, "sh", "-c", kept).split()
    inside(fleet, before, "rm", "-r", aside)
    summary.note("restored to a moment, in place", seconds=round(took, 1), rows="first, not second")
    assert job(fleet, "full")["good"] and job(fleet, "drill")["good"]
