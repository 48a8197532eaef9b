"""Missing WAL is found wherever it is missing, and a failover does not look like it."""

from __future__ import annotations

import pytest
from backline_backup import wal


def names(timeline: int, *indexes: int) -> list[str]:
    return [wal.Segment(timeline, index).name(16) for index in indexes]


def found(present: list[str], since: int = 2, until: int = 2) -> list[tuple[str, str]]:
    gaps = wal.gaps(present, names(1, since)[0], names(1, until)[0], 16)
    return [(gap.first.name(16), gap.last.name(16)) for gap in gaps]


def test_a_segment_knows_its_place_across_logs() -> None:
    last, first = (
        wal.parse("0000000100000000000000FF", 16),
        wal.parse("000000010000000100000000", 16),
    )
    assert first.index == last.index + 1 and first.name(16) == "000000010000000100000000"
    # With segments of 64 MiB a log ends earlier.
    last, first = (
        wal.parse("00000001000000000000003F", 64),
        wal.parse("000000010000000100000000", 64),
    )
    assert first.index == last.index + 1


@pytest.mark.parametrize(
    "name", ["00000002.history", "000000010000000000000003.00000028.backup", ""]
)
def test_what_is_no_segment_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no WAL segment"):
        wal.parse(name, 16)


def test_only_whole_segments_of_the_archive_count() -> None:
    digest = "a" * 40
    listed = [
        f"0000000100000000/000000010000000000000003-{digest}.zst",
        f"0000000100000000/000000010000000000000004.partial-{digest}.zst",
        "0000000100000000/000000010000000000000003.00000028.backup",
        "00000002.history",
        f"0000000100000000/000000010000000000000002-{digest}",
    ]
    assert wal.archived(listed) == names(1, 2, 3)


def test_nothing_is_missing_in_a_row_of_segments() -> None:
    assert found(names(1, 2, 3, 4, 5)) == []


def test_a_segment_in_the_middle_is_missed() -> None:
    assert found(names(1, 2, 3, 6)) == [tuple(names(1, 4, 5))]


def test_what_the_backup_itself_needs_is_missed_at_both_ends() -> None:
    assert found(names(1, 3, 4)) == [tuple(names(1, 2, 2))]
    assert found(names(1, 2), until=3) == [tuple(names(1, 3, 3))]
    assert found([], until=3) == [tuple(names(1, 2, 3))]


def test_what_lies_before_the_backup_does_not_matter() -> None:
    assert found(names(1, 0, 2, 3)) == []


def test_a_failover_goes_on_in_the_segment_where_the_old_timeline_ended() -> None:
    # 5 was not whole on timeline 1: it is kept as .partial, and whole on timeline 2.
    assert found([*names(1, 2, 3, 4), *names(2, 5, 6)]) == []
    assert found([*names(1, 2, 3, 4, 5), *names(2, 5, 6), *names(3, 7)]) == []


def test_a_segment_that_died_with_the_leader_is_missed() -> None:
    assert found([*names(1, 2, 3), *names(2, 5, 6)]) == [tuple(names(2, 4, 4))]


def test_how_far_the_archive_is_behind() -> None:
    mib = 1024**2
    assert wal.bytes_behind("0/5000000", names(1, 4)[0], 16) == 0
    assert wal.bytes_behind("0/6000010", names(1, 4)[0], 16) == 16 * mib + 16
    assert wal.bytes_behind("1/0", names(1, 254)[0], 16) == 16 * mib
    # The position was asked for a little before the segment was archived.
    assert wal.bytes_behind("0/4000000", names(1, 4)[0], 16) == 0
