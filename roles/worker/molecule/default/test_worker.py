"""What an SRE relies on: jobs that are finished, pools that cannot hurt each other."""

from __future__ import annotations

import json

import pytest
import testinfra

RELEASE = "20260101T000000Z-aaaaaaa"
PLAYS, ART = f"jukebox-worker-plays@{RELEASE}", f"jukebox-worker-art@{RELEASE}"
SHARED = "/srv/jukebox/shared"
OLD, NEW = "podman://mol-worker", "podman://mol-worker2"


@pytest.fixture(scope="module")
def host():
    """The first host; the second one only takes over the scheduler."""
    return testinfra.get_host(OLD)


@pytest.fixture(scope="module", autouse=True)
def pools(host):
    """Two pools run."""
    host.run(f"systemctl stop {PLAYS} {ART}; rm -rf {SHARED}/worker-plays {SHARED}/worker-art")
    for unit in (PLAYS, ART):
        started = host.run(f"systemctl start {unit}")
        assert started.rc == 0, host.run(f"journalctl -n 20 -u {unit}").stdout
    for pool in ("plays", "art"):
        began = f"{SHARED}/worker-{pool}/began"
        host.run(f"for i in $(seq 100); do test -e {began} && break; sleep 0.1; done")
    yield
    host.run(f"systemctl stop {PLAYS} {ART}")


def settings(host, unit: str) -> dict[str, str]:
    shown = host.run(f"systemctl show {unit}").stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def test_hostctl_is_told(host):
    folder = "/etc/backline/apps/jukebox/processes"
    read = {
        path: json.loads(host.file(f"{folder}/{path}").content_string)
        for path in host.file(folder).listdir()
    }
    assert read["worker-plays.json"] == {
        "name": "worker-plays",
        "process": "worker",
        "kind": "worker",
        "unit": "jukebox-worker-plays@.service",
        "parameters": {
            "concurrency": "2",
            "max_memory_per_child": str(341 * 1024),
            "queues": "plays,likes",
        },
    }
    assert read["worker-art.json"]["parameters"] == {
        "concurrency": "1",
        "max_memory_per_child": str(128 * 1024),
        "pool": "solo",
        "queues": "art",
    }
    assert set(read) == {"worker-plays.json", "worker-art.json"}


def test_libraries_use_the_threads_of_their_pool(host):
    plays = host.file(f"{SHARED}/worker-plays/environment").content_string.splitlines()
    art = host.file(f"{SHARED}/worker-art/environment").content_string.splitlines()
    assert {"OMP_NUM_THREADS=1", "TF_NUM_INTRAOP_THREADS=1"} <= set(plays)
    assert {f"{library}_NUM_THREADS=3" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")} <= set(
        art
    )
    assert "BACKLINE_SOFT_SHUTDOWN=1" in art


def test_pools_have_limits_and_a_sandbox(host):
    plays, art = settings(host, PLAYS), settings(host, ART)
    assert (plays["User"], plays["Nice"], art["Nice"]) == ("jukebox", "5", "10")
    # In a container the kernel is not told: there systemd's word is all there is to see.
    assert (plays["MemoryMax"], art["MemoryMax"]) == (str(1 << 30), str(256 << 20))
    assert plays["KillMode"] == "mixed"
    assert (plays["MemoryDenyWriteExecute"], art["MemoryDenyWriteExecute"]) == ("yes", "no")
    for unit in (PLAYS, ART):
        words = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -1").stdout
        assert float(words.split(": ")[1].split()[0]) <= 1.5, words


def test_a_job_that_runs_is_finished_when_the_pool_stops(host):
    began, done = f"{SHARED}/worker-plays/began", f"{SHARED}/worker-plays/done"
    host.run(f"rm -f {began}; for i in $(seq 50); do test -e {began} && break; sleep 0.1; done")
    host.run(f"rm -f {done}")
    stopped = host.run(f"systemctl stop {PLAYS}")
    assert stopped.rc == 0
    assert host.file(done).exists, "the job was killed"
    assert settings(host, PLAYS)["Result"] == "success"


def test_a_release_that_is_not_there_is_not_started(host):
    assert host.run("systemctl start jukebox-worker-plays@20990101T000000Z-fffffff").rc != 0


def test_a_pool_that_is_no_more_has_stopped(host):
    unit = f"jukebox-worker-gone@{RELEASE}.service"
    assert not host.service(unit).is_running
    assert not host.file("/etc/systemd/system/jukebox-worker-gone@.service").exists
    assert not host.file(f"/etc/systemd/system/multi-user.target.wants/{unit}").exists


def test_a_pool_that_the_inventory_forgot_finished_its_job_and_is_gone(host):
    unit = f"jukebox-worker-former@{RELEASE}.service"
    assert host.file(f"{SHARED}/worker-former/done").exists, "its job was killed"
    assert not host.service(unit).is_running
    for path in (
        "/etc/systemd/system/jukebox-worker-former@.service",
        "/etc/backline/apps/jukebox/processes/worker-former.json",
    ):
        assert not host.file(path).exists, path


def test_the_scheduler_moved_without_ever_running_twice(host):
    new = testinfra.get_host(NEW)
    unit = f"jukebox-scheduler@{RELEASE}"
    assert not host.service(unit).is_running and new.service(unit).is_running
    ended = float(host.file(f"{SHARED}/scheduler/ended").content_string)
    started = float(new.file(f"{SHARED}/scheduler/started").content_string)
    assert started > ended, f"two schedulers for {ended - started:.1f} s"
    assert not host.file("/etc/systemd/system/jukebox-scheduler@.service").exists
    assert not host.file("/etc/backline/apps/jukebox/processes/scheduler.json").exists
