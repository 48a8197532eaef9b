"""What the workers do."""

from __future__ import annotations

import logging
from typing import Any

from django.db import InterfaceError, OperationalError

from jukebox.celery import app
from music import plays

logger = logging.getLogger(__name__)

#: Together about ten minutes of a database outage; after that the job is a dead letter.
MOST_RETRIES = 14
LONGEST_PAUSE = 60


@app.task(bind=True, max_retries=MOST_RETRIES, name="music.record_play")
def record_play(
    self: Any, play: str, listener: int, track: int, started_at: str, release: str = "", **_: object
) -> None:
    """Records a play once, however often it is delivered.

    Unknown arguments are left aside: the next release may send more than this one knows.
    """
    event = plays.Event(play, listener, track, started_at, release)
    try:
        written = plays.record(event)
    except (OperationalError, InterfaceError) as error:
        pause = min(2**self.request.retries, LONGEST_PAUSE)
        logger.warning("play waits for the database", extra={"play": play, "seconds": pause})
        raise self.retry(exc=error, countdown=pause) from error
    logger.info("play recorded" if written else "play known already", extra={"play": play})
