"""A moment that cannot be reached is refused, and the answer says which can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from backline_backup import pgbackrest, targets
from backline_backup.errors import RefusedError

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def backup(label: str, hours: float) -> pgbackrest.Backup:
    stop = int((NOON + timedelta(hours=hours)).timestamp())
    return pgbackrest.Backup(label, "full", stop - 60, stop, "", "", 10, 5, False)


INFO = pgbackrest.Info((backup("old", -48), backup("new", -24)), "15-1", "")


def choose(moment: datetime | None, info: pgbackrest.Info = INFO) -> str:
    archived = (NOON - timedelta(minutes=5)).timestamp()
    return targets.choose(info, moment, archived, NOON.timestamp()).label


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26T02:59:00Z",
        "2026-11-26 02:59:00+00",
        "2026-11-26 03:59:00.123456+01:00",
        "2026-11-26T02:59+00:00",
    ],
)
def test_a_time_with_its_zone_is_understood(text: str) -> None:
    parsed = targets.parse(text)
    assert parsed and parsed.astimezone(UTC).strftime("%d %H:%M") == "26 02:59"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "yesterday",
        "2026-11-26",
        "2026-11-26 02:59:00",
        "2026-11-26 02:59:00 UTC",
        "2026-13-26T02:59:00Z",
        "2026-11-31T02:59:00Z",
        "2026-11-26T25:59:00Z",
        "26.11.2026 02:59:00+00:00",
        "2026-11-26T02:59:00+00:00 ",
        "2026-11-26T02:59:00+00:00\n",
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RefusedError, match="2026-11-26T02:59:00"):
        targets.parse(text)


def test_the_newest_is_no_moment() -> None:
    assert targets.parse("newest") is None
    assert choose(None) == "new"


def test_the_newest_backup_that_was_complete_by_then_is_taken() -> None:
    assert choose(NOON - timedelta(hours=1)) == "new"
    assert choose(NOON - timedelta(hours=25)) == "old"
    # Not in the second in which it ended: it may not be consistent by then.
    assert choose(NOON - timedelta(hours=24)) == "old"
    assert choose(NOON - timedelta(hours=24) + timedelta(seconds=1)) == "new"


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        (NOON - timedelta(hours=49), "before the oldest backup"),
        (NOON - timedelta(minutes=1), "after the end of the archive"),
        (NOON + timedelta(minutes=1), "in the future"),
    ],
)
def test_outside_of_the_archive_is_refused_with_what_there_is(moment: datetime, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as refused:
        choose(moment)
    assert "from 2026-11-24T12:00:01+00:00 to 2026-11-26T11:55:00+00:00" in str(refused.value)


def test_without_a_backup_there_is_nothing_to_restore() -> None:
    for moment in (None, NOON):
        with pytest.raises(RefusedError, match="no backup"):
            choose(moment, pgbackrest.Info((), "15-1", ""))
