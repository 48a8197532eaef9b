"""To which moments the archive can bring a cluster back, and from which backup."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from .errors import RefusedError
from .pgbackrest import Backup, Info

NEWEST = "newest"
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)")
EXAMPLE = "such as 2026-11-26T02:59:00+00:00"


@dataclass(frozen=True)
class Window:
    """From when to when the archive reaches; `until` is when its last whole segment came in."""

    since: datetime
    until: datetime

    def as_json(self) -> dict[str, str]:
        return {"since": stamp(self.since), "until": stamp(self.until)}


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def parse(text: str) -> datetime | None:
    """The moment that somebody typed, None for the newest. Raises RefusedError for anything else.

    A time without its zone is refused: whoever types it at night means another one than the host does.
    """
    if text == NEWEST:
        return None
    if not MOMENT.fullmatch(text):
        raise RefusedError(
            f"{text!r} is no time with date and zone", f"Say {NEWEST}, or a time {EXAMPLE}"
        )
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(
            f"{text!r} is no time: {error}", f"Say {NEWEST}, or a time {EXAMPLE}"
        ) from error


def window(info: Info, newest_archived: float) -> Window:
    """Raises RefusedError when there is no backup."""
    oldest = info.oldest()
    if oldest is None:
        raise RefusedError("the repository has no backup", "Nothing can be restored from it")
    return Window(at(oldest.stop + 1), at(max(newest_archived, oldest.stop + 1)))


def choose(info: Info, moment: datetime | None, newest_archived: float, now: float) -> Backup:
    """The newest backup that was complete before the moment. Raises RefusedError, saying what there is."""
    reach = window(info, newest_archived)
    if moment is None:
        return info.backups[-1]
    span = f"The archive reaches from {stamp(reach.since)} to {stamp(reach.until)}"
    if moment > at(now):
        raise RefusedError(f"{stamp(moment)} is in the future", span)
    if moment > reach.until:
        raise RefusedError(
            f"{stamp(moment)} is after the end of the archive", f"{span}; or say {NEWEST}"
        )
    if moment < reach.since:
        raise RefusedError(f"{stamp(moment)} is before the oldest backup", span)
    # pgBackRest keeps whole seconds, of which the last one may be the backup's own.
    return [one for one in info.backups if at(one.stop + 1) <= moment][-1]
