"""From "a listener pressed play" to a row: announced by the web, recorded by a worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction

from music.models import Play

logger = logging.getLogger(__name__)

#: Seconds without a further try after the broker failed: one listener waits, not each of them.
REST = 10.0


@dataclass(frozen=True)
class Event:
    """A play as it travels: plain text, so that releases can read each other's messages.

    Add fields with a default and never rename one: during a deploy both releases run.
    """

    play: str
    listener: int
    track: int
    started_at: str
    release: str = ""

    @classmethod
    def now(cls, play: UUID, listener: int, track: int, at: datetime) -> Event:
        """The event of a play that begins at `at`."""
        return cls(str(play), listener, track, at.isoformat(), settings.RELEASE)


def record(event: Event) -> bool:
    """Writes the play down. Returns False if it was there already, or can't ever be.

    Raises `DatabaseError` when the database is away: try again later.
    """
    play = Play(
        id=UUID(event.play),
        listener_id=event.listener,
        track_id=event.track,
        started_at=datetime.fromisoformat(event.started_at),
        release=event.release,
    )
    try:
        with transaction.atomic():
            if Play.objects.filter(pk=play.pk).exists():
                return False
            # The same job may run twice at once: the second insert does nothing.
            Play.objects.bulk_create([play], ignore_conflicts=True)
    except IntegrityError:
        logger.warning("play dropped: its listener or track is gone", extra=asdict(event))
        return False
    return True


class Publisher:
    """Sends events to the broker, and leaves it alone for a while after it failed."""

    def __init__(
        self, send: Callable[[Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._resting_until = float("-inf")
        self._lock = threading.Lock()

    def publish(self, event: Event) -> bool:
        """Sends, within seconds. Returns whether the broker confirmed; never raises."""
        with self._lock:
            if self._clock() < self._resting_until:
                return False
        try:
            self._send(event)
        except Exception:
            with self._lock:
                self._resting_until = self._clock() + REST
            logger.exception(
                "the broker did not take a play, not trying it again for %g s", REST,
                extra={"play": event.play},
            )  # fmt: skip
            return False
        return True


def _send(event: Event) -> None:
    # Imported here: a management command needs no Celery, and starts quicker without it.
    from kombu.pools import producers

    from jukebox import broker
    from music.tasks import record_play

    with producers[broker.connection()].acquire(block=True, timeout=1) as producer:
        record_play.apply_async(
            kwargs=asdict(event),
            task_id=event.play,
            producer=producer,
            retry=True,
            retry_policy=broker.RETRY_POLICY,
            confirm_timeout=broker.ANSWER_TIMEOUT,
        )


publisher = Publisher(_send)


def announce(event: Event) -> None:
    """Have the play recorded: by a worker, or here if the broker is away. Never raises.

    Playing a song must not depend on counting it.
    """
    if publisher.publish(event):
        logger.info("play announced", extra={"play": event.play, "track": event.track})
        return
    try:
        record(event)
    except DatabaseError:
        logger.exception("play lost: neither broker nor database took it", extra=asdict(event))
    else:
        logger.warning("play recorded without the broker", extra={"play": event.play})
