"""Dead letters and workers, as `fab workers` asks for them: with our Celery and kombu, a broker in memory.

The program is backline's and runs with the libraries of a release: these.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu import Producer, Queue
from kombu.transport import memory

SOURCE = Path(__file__).resolve().parents[3] / "backline" / "hostctl" / "celery_program.py"
WANTED = {"queue": "dead", "limit": 100, "most": 100, "seconds": 30, "patience": 3}
DIED = {"queue": "jobs", "reason": "rejected", "count": 1, "time": datetime(2026, 11, 22, 19, 5)}


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """What hostctl hands to the application's Python."""
    found = importlib.util.spec_from_file_location("celery_program", SOURCE)
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An application with a job that naps. What is not acknowledged comes back, as with RabbitMQ."""
    monkeypatch.setattr(memory.Channel, "do_restore", True)
    made = Celery("letters", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_default_queue = "jobs"
    made.conf.task_acks_late = True

    @made.task(name="letters.nap", shared=False)
    def nap(seconds: float) -> None:
        time.sleep(seconds)

    yield made
    with made.connection_for_write() as link:
        for name in ("jobs", "dead"):
            Queue(name, channel=link.channel()).purge()


def die(app: Celery, *ids: str) -> None:
    """Has jobs die: they lie in `dead` with what RabbitMQ notes on them."""
    with app.connection_for_write() as link:
        channel = link.channel()
        jobs, dead = Queue("jobs", channel=channel), Queue("dead", channel=channel)
        jobs.declare(), dead.declare()
        for job in ids:
            app.tasks["letters.nap"].apply_async((0,), task_id=job)
            message = jobs.get()
            headers = {**message.headers, "retries": 14, "x-death": [DIED]}
            Producer(channel, auto_declare=False).publish(
                message.body,
                routing_key="dead",
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                headers=headers,
            )
            message.ack()


def ids(answer: dict[str, Any]) -> set[str]:
    return {letter["id"] for letter in answer["letters"]}


def test_looking_at_letters_leaves_them_there(program: ModuleType, app: Celery) -> None:
    die(app, "a", "b", "c")
    for _ in range(2):
        answer = program.perform(app, {**WANTED, "action": "dead"})
        assert (answer["there"], ids(answer)) == (3, {"a", "b", "c"})
    letter = answer["letters"][0]
    assert (letter["task"], letter["queue"], letter["why"]) == ("letters.nap", "jobs", "rejected")
    assert letter["at"] == datetime(2026, 11, 22, 19, 5, tzinfo=UTC).timestamp()


def test_letters_that_go_round_again_are_jobs_as_before(program: ModuleType, app: Celery) -> None:
    die(app, "a", "b", "c")
    answer = program.perform(app, {**WANTED, "action": "requeue", "ids": ["a", "c"]})
    assert (answer["moved"], answer["over"], answer["trouble"]) == (2, True, None)
    assert ids(program.perform(app, {**WANTED, "action": "dead"})) == {"b"}
    with app.connection_for_read() as link:
        message = Queue("jobs", channel=link.channel()).get()
        assert message.headers["retries"] == 0 and "x-death" not in message.headers
        assert message.payload[0] == [0]
        message.requeue()
    with start_worker(app, pool="solo", queues=["jobs"], perform_ping_check=False):
        for job in ("a", "c"):
            app.AsyncResult(job).get(timeout=10, disable_sync_subtasks=False)


def test_workers_say_what_they_do_and_hear_what_not_to_do(program: ModuleType, app: Celery) -> None:
    options = {"pool": "threads", "concurrency": 1, "queues": ["jobs"], "hostname": "pool@here"}
    with start_worker(app, perform_ping_check=False, shutdown_timeout=30.0, **options) as worker:
        for job in ("first", "second"):
            app.tasks["letters.nap"].apply_async((8,), task_id=job)
        time.sleep(1)
        asked = {**WANTED, "action": "pools", "nodes": [worker.hostname]}
        (node,) = program.perform(app, asked)["nodes"].values()
        assert [job["id"] for job in node["active"]] == ["first"]
        assert [job["id"] for job in node["reserved"]] == ["second"]
        dry = {**WANTED, "action": "revoke", "ids": ["second"], "dry": True}
        assert program.perform(app, dry)["confirmed"] == []
        answer = program.perform(app, {**dry, "dry": False})
        assert answer["confirmed"] == [worker.hostname]
