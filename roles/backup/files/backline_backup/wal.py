"""Names of WAL segments, and which are missing between others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SEGMENT = re.compile(r"^(?P<timeline>[0-9A-F]{8})(?P<log>[0-9A-F]{8})(?P<part>[0-9A-F]{8})$")
ARCHIVED = re.compile(r"^([0-9A-F]{24})-[0-9a-f]{40}(\.[a-z0-9]+)?$")
"""A whole segment as pgBackRest keeps it; not `.partial`, `.backup` and `.history`."""
LOG_MB = 4096


@dataclass(frozen=True, order=True)
class Segment:
    """A segment: its timeline, and how many segments of any timeline lie before it."""

    timeline: int
    index: int

    def name(self, segment_mb: int) -> str:
        log, part = divmod(self.index, LOG_MB // segment_mb)
        return f"{self.timeline:08X}{log:08X}{part:08X}"


@dataclass(frozen=True)
class Gap:
    """Segments that are missing, from `first` to `last`."""

    first: Segment
    last: Segment


def parse(name: str, segment_mb: int) -> Segment:
    """The segment of that name. Raises ValueError for what is no segment."""
    found = SEGMENT.match(name)
    if not found:
        raise ValueError(f"{name} is no WAL segment")
    log, part = int(found["log"], 16), int(found["part"], 16)
    return Segment(int(found["timeline"], 16), log * (LOG_MB // segment_mb) + part)


def archived(names: Iterable[str]) -> list[str]:
    """The segments among the files of pgBackRest's archive, by their paths or names."""
    found = (ARCHIVED.match(name.rpartition("/")[2]) for name in names)
    return sorted(match[1] for match in found if match)


def gaps(names: Iterable[str], since: str, until: str, segment_mb: int) -> list[Gap]:
    """What is missing from `since` on: up to `until`, inside of each timeline, and between one and the next.

    A timeline begins in the segment in which the one before ends, so that its first segment is at
    most one after the last whole one of its parent.
    """
    start, needed = parse(since, segment_mb), parse(until, segment_mb)
    found: dict[int, set[int]] = {start.timeline: set()}
    for name in names:
        segment = parse(name, segment_mb)
        if segment >= start and segment.index >= start.index:
            found.setdefault(segment.timeline, set()).add(segment.index)
    missing, reached = [], start.index - 1
    for timeline, present in sorted(found.items()):
        first = start.index if timeline == start.timeline else min(min(present), reached + 1)
        end = needed.index if timeline == needed.timeline else 0
        missing += _holes(timeline, first, present, end)
        reached = max(present, default=reached)
    return missing


def _holes(timeline: int, first: int, present: set[int], end: int) -> list[Gap]:
    """Between `first` and the last that is present, or `end` if that is later."""
    holes, expected = [], first
    for index in [*sorted(present), end + 1]:
        if index > expected:
            holes.append(Gap(Segment(timeline, expected), Segment(timeline, index - 1)))
        expected = index + 1
    return holes


def bytes_behind(lsn: str, last_archived: str, segment_mb: int) -> int:
    """WAL between the end of the last archived segment and `lsn` (as in 0/16B3748); never below 0."""
    high, low = lsn.split("/")
    position = (int(high, 16) << 32) + int(low, 16)
    end = (parse(last_archived, segment_mb).index + 1) * segment_mb * 1024**2
    return max(0, position - end)
