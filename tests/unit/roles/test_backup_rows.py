"""Restored rows are compared with the leader's, whatever is written meanwhile."""

from __future__ import annotations

import random

import pytest
from backline_backup import drill, rows
from backline_backup.errors import BackupError
from backline_backup.rows import Table
from hypothesis import given
from hypothesis import strategies as st

SONGS, PLAYS = Table("public.songs", 1), Table("public.plays", 2)


def test_the_same_rows_are_the_same() -> None:
    same = {SONGS: {"0": "3:77", "1": "1:5"}}
    assert rows.compare(same, same, same) == rows.Comparison(2, 0, 1)


def test_a_row_that_differs_is_named_with_its_place() -> None:
    leader = {SONGS: {"0": "3:77", "2": "1:5"}}
    restored = {SONGS: {"0": "3:77", "2": "1:6"}}
    assert rows.compare(leader, leader, restored).differing == ("public.songs, pages from 256",)


@pytest.mark.parametrize("restored", [{"0": "3:77"}, {"0": "3:77", "1": "1:5", "2": "1:1"}])
def test_rows_that_are_gone_or_too_many_differ(restored: dict[str, str]) -> None:
    leader = {SONGS: {"0": "3:77", "1": "1:5"}}
    assert rows.compare(leader, leader, {SONGS: restored}).differing


def test_a_table_that_did_not_come_back_differs() -> None:
    leader = {SONGS: {"0": "3:77"}}
    assert rows.compare(leader, leader, {}).differing == ("public.songs is missing",)
    assert rows.compare({SONGS: {}}, {SONGS: {}}, {}).differing == ("public.songs is missing",)


def test_a_piece_that_was_written_to_says_nothing() -> None:
    before, after = {SONGS: {"0": "3:77", "1": "1:5"}}, {SONGS: {"0": "2:70", "1": "1:5"}}
    for restored in ({"0": "3:77", "1": "1:5"}, {"0": "2:70", "1": "1:5"}, {"1": "1:5"}):
        found = rows.compare(before, after, {SONGS: restored})
        assert found == rows.Comparison(1, 1, 1)


def test_a_table_that_was_dropped_or_made_anew_says_nothing() -> None:
    again = Table(SONGS.name, 99)
    assert rows.compare({SONGS: {"0": "1:1"}}, {again: {"0": "1:2"}}, {}) == rows.Comparison(
        0, 0, 0
    )


def test_a_drill_that_could_compare_nothing_is_no_good_one() -> None:
    busy = {SONGS: {"0": "1:1"}}
    with pytest.raises(BackupError, match="no row could be compared"):
        drill.judge_rows({"music": busy}, {"music": {SONGS: {"0": "1:2"}}}, {"music": busy})


def test_rows_that_differ_fail_the_drill_and_are_named() -> None:
    leader = {"music": {SONGS: {"0": "1:1"}}, "other": {PLAYS: {"0": "1:1"}}}
    restored = {"music": {SONGS: {"0": "1:1"}}, "other": {PLAYS: {"0": "1:2"}}}
    with pytest.raises(BackupError, match="other: public.plays, pages from 0"):
        drill.judge_rows(leader, leader, restored)
    assert drill.judge_rows(leader, leader, leader) == {"tables": 2, "pieces": 2, "busy_pieces": 0}


class Heap:
    """A table as MVCC has it: each write is a transaction, old row versions go, new ones come."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[int, int, int]] = {}
        self.xid = 10
        self.place = 0

    def write(self, chance: random.Random) -> None:
        self.xid += 1
        kind = chance.choice(["insert", "update", "delete", "update"])
        if kind != "insert" and self.rows:
            self.rows.pop(chance.choice(list(self.rows)))
        if kind != "delete":
            self.rows[self.place] = (self.xid, self.place // 3, chance.randrange(3))
            self.place += 1

    def sums(self, horizon: int) -> dict[str, str]:
        pieces: dict[str, list[str]] = {}
        for place, (xmin, piece, value) in sorted(self.rows.items()):
            if xmin < horizon:
                pieces.setdefault(str(piece), []).append(f"{place}={value}")
        return {piece: ",".join(found) for piece, found in pieces.items()}


@given(st.integers(), st.integers(0, 30), st.integers(0, 6), st.integers(0, 6))
def test_no_write_makes_a_good_backup_look_bad(seed: int, old: int, until: int, then: int) -> None:
    chance, heap = random.Random(seed), Heap()
    for _ in range(old):
        heap.write(chance)
    horizon = heap.xid + 1
    before = heap.sums(horizon)
    for _ in range(until):
        heap.write(chance)
    restored = heap.sums(horizon)
    for _ in range(then):
        heap.write(chance)
    found = rows.compare({SONGS: before}, {SONGS: heap.sums(horizon)}, {SONGS: restored})
    assert found.differing == ()


@given(st.integers(), st.integers(1, 30))
def test_a_row_that_is_lost_in_a_quiet_table_is_always_seen(seed: int, old: int) -> None:
    chance, heap = random.Random(seed), Heap()
    for _ in range(old):
        heap.write(chance)
    leader = heap.sums(heap.xid + 1)
    if not heap.rows:
        return
    heap.rows.pop(chance.choice(list(heap.rows)))
    found = rows.compare({SONGS: leader}, {SONGS: leader}, {SONGS: heap.sums(heap.xid + 1)})
    assert len(found.differing) == 1
