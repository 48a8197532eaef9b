"""The time axis of a report: from moments to places between 0 and 100. Pure.

A run that was interrupted and taken up again hours later has a gap in which nothing happened: it is
drawn as a narrow break, so that what did happen can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GAP = 3.0
"""How wide a break is, in percent of the axis."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
TICKS = 6


@dataclass(frozen=True)
class Axis:
    """`spans`: (from, to) of each sitting, in seconds since the epoch, in their order."""

    spans: Sequence[tuple[float, float]]

    @property
    def seconds(self) -> float:
        """How long all sittings took together."""
        return sum(end - begin for begin, end in self.spans) or 1.0

    def at(self, moment: float) -> float:
        """Where a moment is, 0 to 100; one within a break is at the break's end."""
        scale = (100.0 - GAP * (len(self.spans) - 1)) / self.seconds
        place = 0.0
        for begin, end in self.spans:
            if moment <= end:
                return round(place + max(0.0, moment - begin) * scale, 3)
            place += (end - begin) * scale + GAP
        return 100.0

    @property
    def breaks(self) -> list[float]:
        """Where the breaks are: the middle of each."""
        return [self.at(begin) - GAP / 2 for begin, _ in self.spans[1:]]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and their labels: time since the run began, without the breaks."""
        step = next((s for s in STEPS if self.seconds / s <= TICKS), STEPS[-1])
        found, passed, due = [], 0.0, 0.0
        for begin, end in self.spans:
            while due <= passed + (end - begin):
                found.append((self.at(begin + due - passed), _label(due)))
                due += step
            passed += end - begin
        return found


def of(events: Iterable[tuple[str, float]]) -> Axis:
    """The axis of a journal, given as (event, time): each `begun` opens a sitting."""
    spans: list[tuple[float, float]] = []
    for kind, time in events:
        if kind == "begun" or not spans:
            spans.append((float(time), float(time)))
        spans[-1] = (spans[-1][0], max(spans[-1][1], float(time)))
    return Axis(spans or [(0.0, 1.0)])


def _label(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
