"""`hostctl jobs` and `hostctl scale`: run as the application, nothing secret told, kept over a deploy."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backline import hostctl_build
from backline.hostctl import celery_program, execute, jobs, settings

from .fake_host import PROCESSES, R1, R2, Lab

CELERY = {
    **PROCESSES,
    "worker": {
        **PROCESSES["worker"],
        "command": [
            *("{venv}/bin/celery", "-A", "jukebox", "worker", "--queues", "{queues}"),
            *("--concurrency", "{concurrency}", "-n", "{process}.{release}@%h"),
        ],
    },
}
# In place of Celery: says what it was asked, and with which environment and arguments.
FIND_APP = """
import json, os, sys

class App:
    def __init__(self, name):
        self.name = name

    def connection_for_write(self, **options):
        told = {"app": self.name, "folder": os.getcwd(), "argv": len(sys.argv)}
        told["secret"] = os.environ["JUKEBOX_SECRET_KEY"]
        raise RuntimeError(json.dumps(told))

find_app = App
"""


def plant(lab: Lab, find_app: str = FIND_APP) -> None:
    """A release whose Python finds a Celery of ours beside the application."""
    lab.plant(R1, processes=CELERY)
    lab.declare("worker-plays", "worker", "worker", queues="plays", concurrency=2)
    folder = lab.releases / R1
    python = folder / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name in ("celery/__init__.py", "celery/app/__init__.py", "celery/app/utils.py"):
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(find_app if name.endswith("utils.py") else "")
    path = lab.path("var/lib/backline/jukebox/state.json")
    known = json.loads(path.read_text())
    live = {"release": R1, "previous": None, "switched_at": 0}
    path.write_text(json.dumps({**known, "live": dict.fromkeys(("worker-plays", "beat"), live)}))


def test_the_program_runs_in_the_release_with_the_apps_environment(lab: Lab) -> None:
    plant(lab)
    status, answer = lab.call("jobs", action="dead")
    assert (status, answer["error"]["code"]) == (1, "jobs_failed")
    told = json.loads(answer["error"]["message"].partition("RuntimeError: ")[2])
    assert told["app"] == "jukebox" and told["folder"] == str(lab.releases / R1 / "app")
    assert told["secret"] == "***", "it had the secret, and nobody else hears it"


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"action": "purge"}, "action"),
        ({"action": "dead", "limit": 0}, "limit"),
        ({"action": "requeue", "ids": "job1"}, "ids"),
        ({"action": "requeue", "queue": "de\nad"}, "queue"),
        ({"action": "revoke", "ids": ["a", "b"]}, "one job"),
        ({"action": "revoke"}, "one job"),
    ],
)
def test_what_is_malformed_is_not_asked(lab: Lab, fields: dict[str, Any], what: str) -> None:
    plant(lab)
    status, answer = lab.call("jobs", **fields)
    assert status == 2 and what in answer["error"]["message"]


def test_a_host_without_a_pool_says_so(lab: Lab) -> None:
    lab.plant(R1)
    assert lab.refused("jobs", action="dead") == (1, "no_celery")
    assert lab.ok("jobs", action="status")["pools"] == []


def test_status_tells_of_pools_that_do_not_run_and_asks_nobody(lab: Lab) -> None:
    plant(lab)
    answer = lab.ok("jobs", action="status")
    (pool,) = answer["pools"]
    assert (pool["process"], pool["release"], pool["active"]) == ("worker-plays", R1, "inactive")
    assert (pool["queues"], pool["children"], pool["inventory"]) == ("plays", 2, 2)
    assert pool["answer"] is None and answer["trouble"] is None
    assert answer["singletons"] == [{"process": "beat", "release": R1, "active": "inactive"}]


def test_status_of_a_broker_that_is_away_is_still_a_status(lab: Lab) -> None:
    plant(lab)
    lab.systemd.unit(f"jukebox-worker-plays@{R1}.service").update(active="active", pid=7)
    answer = lab.ok("jobs", action="status")
    assert answer["pools"][0]["active"] == "active" and "cannot ask" in answer["trouble"]


NOISY = """
import atexit, json
from types import SimpleNamespace
print("loading {")
atexit.register(print, json.dumps({"level": "info", "text": "good bye"}))

class Link:
    def __enter__(self): return self
    def __exit__(self, *exception): pass
    def ensure_connection(self, **options): pass

def find_app(name):
    stats = {NODE: {"pool": {"processes": [7, 8]}}}
    job = {"id": "j1", "name": "t", "args": ["s3cret"], "time_start": 5.0}
    answers = SimpleNamespace(ping=lambda: {NODE: {"ok": "pong"}}, stats=lambda: stats,
                              active=lambda: {NODE: [job]}, reserved=lambda: None)
    control = SimpleNamespace(inspect=lambda **options: answers)
    return SimpleNamespace(connection_for_write=lambda **options: Link(), control=control)
"""


def test_an_application_may_print_what_it_likes(lab: Lab) -> None:
    node = f"worker-plays.{R1}@{platform.node()}"
    plant(lab, NOISY.replace("NODE", repr(node)))
    lab.systemd.unit(f"jukebox-worker-plays@{R1}.service").update(active="active", pid=7)
    answer = lab.ok("jobs", action="status")
    assert answer["trouble"] is None
    (pool,) = answer["pools"]
    assert pool["answer"]["processes"] == 2 and pool["answer"]["reserved"] == []
    assert pool["answer"]["active"] == [{"task": "t", "id": "j1", "since": 5.0, "queue": None}]


def test_a_workers_name_is_the_one_of_its_command() -> None:
    words = ["celery", "--app=jukebox", "worker", "--hostname", "plays.R@%h"]
    assert jobs.option(words, jobs.APPS) == "jukebox"
    assert jobs.node_name(jobs.option(words, jobs.NAMES)) == f"plays.R@{platform.node()}"
    assert jobs.option(["celery", "-A"], jobs.APPS) == ""


def test_a_scale_is_kept_and_taken_up_by_every_start(lab: Lab) -> None:
    plant(lab)
    lab.take()
    answer = lab.ok("scale", process="worker-plays", children=6)
    assert (answer["was"], answer["inventory"], answer["already"]) == (None, 2, False)
    lab.plant(R2, processes=CELERY)
    for release in (R1, R2):
        request = execute.parse(
            ["--app", "jukebox", "--process", "worker-plays", "--release", release]
        )
        command = execute.prepare(lab.host, request)[0]
        assert command[command.index("--concurrency") + 1] == "6"
    assert lab.ok("jobs", action="status")["pools"][0]["children"] == 6
    assert lab.ok("scale", process="worker-plays", children=6)["already"] is True
    assert lab.journal()[-1]["children"] == 6
    answer = lab.ok("scale", process="worker-plays")
    assert (answer["children"], answer["was"]) == (None, 6)
    assert settings.process(lab.host, "jukebox", "worker-plays").parameters["concurrency"] == "2"
    assert not settings.scale_file(lab.host, "jukebox").exists()


def test_the_program_is_part_of_what_is_installed(tmp_path: Path) -> None:
    """hostctl is one file, and reads the program out of itself."""
    path = tmp_path / "hostctl"
    hostctl_build.write(path)
    script = "import sys, pkgutil; sys.path.insert(0, sys.argv[1]); "
    script += "sys.stdout.write(pkgutil.get_data('hostctl', 'celery_program.py').decode())"
    argv = [sys.executable, "-IS", "-c", script, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == Path(celery_program.__file__).read_text()
    compile(done.stdout, "program", "exec")


def test_more_children_share_the_memory_of_the_pool() -> None:
    own = {"concurrency": "2", "max_memory_per_child": "349184"}
    assert settings.scaled(own, 5)["max_memory_per_child"] == str(349184 * 3 // 6)
    assert settings.scaled(own, 1)["max_memory_per_child"] == "349184", "what a job may need stays"
    assert settings.scaled({"concurrency": "2"}, 5) == {"concurrency": "5"}


@pytest.mark.parametrize("scaled", [False, True])
def test_a_pool_that_was_stopped_rests_unless_its_own_scaling_stopped_it(
    lab: Lab, scaled: bool
) -> None:
    what = {"process": "worker-plays", "release": R1}
    plant(lab)
    assert lab.ok("jobs", action="status")["pools"][0]["rests"] is False, "nobody stopped it"
    lab.take()
    lab.ok("start", **what)
    if scaled:
        lab.ok("scale", process="worker-plays", children=6)
    lab.ok("stop", force=True, **what)
    (pool,) = lab.ok("jobs", action="status")["pools"]
    assert (pool["active"], pool["rests"]) == ("inactive", not scaled)


def test_a_pool_that_ended_by_itself_does_not_rest(lab: Lab) -> None:
    what = {"process": "worker-plays", "release": R1}
    plant(lab)
    lab.take()
    lab.ok("start", **what)
    lab.ok("stop", force=True, **what)
    lab.ok("start", **what)
    assert lab.ok("jobs", action="status")["pools"][0]["rests"] is False
    lab.systemd.unit(f"jukebox-worker-plays@{R1}.service").update(active="failed", pid=0)
    (pool,) = lab.ok("jobs", action="status")["pools"]
    assert (pool["active"], pool["rests"]) == ("failed", False)
    lab.ok("drain", action="on", persist=True)
    assert lab.ok("jobs", action="status")["pools"][0]["rests"] is True


def test_what_is_no_pool_is_not_scaled_and_nothing_without_the_lease(lab: Lab) -> None:
    plant(lab)
    assert lab.refused("scale", process="worker-plays", children=3) == (6, "lease_required")
    lab.take()
    assert lab.refused("scale", process="beat", children=3) == (2, "not_a_pool")
    assert lab.refused("scale", process="worker-plays", children=0) == (2, "bad_field")
