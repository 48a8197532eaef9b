"""From the button to the row, through a real worker that consumes the queue.

The broker here lives in memory; what RabbitMQ adds is tested on the fleet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from django.test import Client

from jukebox.celery import app
from music import plays
from music.models import Play, Track


@pytest.fixture
def worker(transactional_db: None) -> Iterator[None]:
    """A worker of this process, taking jobs from `plays`."""
    with start_worker(app, pool="solo", queues=["plays"], perform_ping_check=False):
        yield


def wait_for_plays(number: int) -> list[Play]:
    """The plays, once there are `number` of them, or after 10 s."""
    until = time.monotonic() + 10
    while Play.objects.count() < number and time.monotonic() < until:
        time.sleep(0.05)
    return list(Play.objects.order_by("started_at"))


@pytest.mark.usefixtures("worker")
def test_a_play_goes_through_the_queue_and_is_recorded_once(
    browser: Client, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plays, "publisher", plays.Publisher(plays._send))
    address = f"/tracks/{track.slug}/stream"
    twice, after = str(uuid4()), str(uuid4())
    for play in (twice, twice, after):
        assert browser.get(f"{address}?play={play}").status_code == 200
    # The queue keeps its order: once the last is there, the second was dealt with too.
    assert [str(play.id) for play in wait_for_plays(2)] == [twice, after]
    assert track.title in browser.get("/plays/").text


def test_a_broker_that_is_away_does_not_keep_a_worker_from_its_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is asked once for the delays that one of them can declare for all."""
    from celery.signals import celeryd_init
    from celery.worker.consumer import delayed_delivery

    monkeypatch.setattr(delayed_delivery, "MAX_RETRIES", delayed_delivery.MAX_RETRIES)
    monkeypatch.setattr(delayed_delivery, "RETRY_INTERVAL", 0.0)
    celeryd_init.send(sender="worker@host", instance=None, conf=app.conf, options={})
    asked: list[str] = []

    def away(step: object, consumer: object, url: str) -> None:
        asked.append(url)
        raise OSError("timed out")

    monkeypatch.setattr(delayed_delivery.DelayedDelivery, "_setup_delayed_delivery", away)
    one, two = "amqps://broker1:5671/jukebox", "amqps://broker2:5671/jukebox"
    cluster = Celery("cluster", broker=f"{one};{two}")
    delayed_delivery.DelayedDelivery(None).start(SimpleNamespace(app=cluster))
    assert sorted(asked) == [one, two]


def test_jobs_survive_what_happens_to_workers() -> None:
    from music.tasks import record_play

    assert record_play.acks_late
    assert record_play.reject_on_worker_lost
    assert record_play.acks_on_failure_or_timeout is False
    queue = app.amqp.queues["plays"]
    assert queue.queue_arguments == {"x-queue-type": "quorum"}
    assert queue.durable
    assert app.conf.broker_transport_options["confirm_publish"] is True
