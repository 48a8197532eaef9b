"""What each host of a run did, and when: bars for a report, from the run's events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backline.rollout.axis import Axis

KINDS = ("ship", "stage", "migrate", "start", "check", "switch", "watch", "stop", "rollback")
MOST = 250
"""Hosts that are drawn; of a larger fleet those that failed come first."""
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """One thing that a host did: from `left`, `width` wide (percent of the axis)."""

    kind: str
    left: float
    width: float
    failed: bool
    title: str


@dataclass(frozen=True)
class Row:
    """One host. `note` is why it failed."""

    host: str
    bars: tuple[Bar, ...]
    failed: bool
    note: str


@dataclass(frozen=True)
class Band:
    """A batch or a retreat, behind all rows."""

    label: str
    title: str
    left: float
    width: float
    retreat: bool


def rows(events: Sequence[Event], hosts: Sequence[str], axis: Axis) -> list[Row]:
    """A row for each host, in the order of `hosts`."""
    bars: dict[str, list[Bar]] = {host: [] for host in hosts}
    notes: dict[str, str] = {}
    open_: dict[tuple[str, str], Event] = {}
    for event in events:
        host, kind = str(event.get("host") or ""), str(event.get("event"))
        if kind == "begin" and host:
            open_[host, str(event.get("text"))] = event
        elif kind == "begun":
            open_.clear()  # what a controller that is gone had begun, nobody saw the end of
        elif host and kind == "failed":
            what = str(event.get("text")).partition(":")[0]
            began = open_.pop((host, what), None)
            bars.setdefault(host, []).append(_bar(what, event, began, axis, failed=True))
            notes[host] = str(event.get("text"))
        elif host and kind in KINDS:
            began = open_.pop((host, kind), None)
            bars.setdefault(host, []).append(_bar(kind, event, began, axis))
    for host, found in _watches(events, axis).items():
        bars.setdefault(host, []).extend(found)
    return [
        Row(host, tuple(sorted(found, key=_depth)), host in notes, notes.get(host, ""))
        for host, found in bars.items()
    ]


def drawn(found: Sequence[Row]) -> list[Row]:
    """The rows that a page can hold: all, or those that failed and the first of the others."""
    if len(found) <= MOST:
        return list(found)
    chosen = {row.host for row in sorted(found, key=lambda row: not row.failed)[:MOST]}
    return [row for row in found if row.host in chosen]


def bands(events: Sequence[Event], axis: Axis) -> list[Band]:
    """The batches and retreats of a run."""
    found = []
    for event, until in _phases(events):
        phase = event.get("phase")
        if phase not in ("batch", "retreat"):
            continue
        left, right = axis.at(event["time"]), axis.at(until)
        hosts = ", ".join(event.get("hosts") or ()) or "nobody"
        number = event.get("number")
        label = f"batch {number}" if phase == "batch" else "going back"
        found.append(Band(label, f"{label}: {hosts}", left, right - left, phase == "retreat"))
    return found


def _phases(events: Sequence[Event]) -> Iterable[tuple[Event, float]]:
    """Each phase with the moment it ended; a soak belongs to the batch before it."""
    marks = [e for e in events if e.get("event") in ("phase", "ended", "begun")]
    marks = [e for e in marks if e.get("phase") != "soak"]
    for event, after in zip(marks, [*marks[1:], None], strict=True):
        if event.get("event") == "phase":
            yield event, float(after["time"] if after else events[-1]["time"])


def _watches(events: Sequence[Event], axis: Axis) -> dict[str, list[Bar]]:
    """How long hosts were watched after a batch: until the verdict, or the next thing that was done."""
    found: dict[str, list[Bar]] = {}
    for number, event in enumerate(events):
        if event.get("phase") != "soak":
            continue
        over = ("verdict", "phase", "ended", "failed", "begun")
        after = next((e for e in events[number + 1 :] if e.get("event") in over), events[-1])
        left, right = axis.at(event["time"]), axis.at(after["time"])
        title = f"watched for {after['time'] - event['time']:.1f} s"
        for host in event.get("hosts") or ():
            found.setdefault(str(host), []).append(Bar("watch", left, right - left, False, title))
    return found


def _bar(kind: str, event: Event, began: Event | None, axis: Axis, failed: bool = False) -> Bar:
    end = float(event["time"])
    seconds = float(event.get("seconds") or (end - began["time"] if began else 0.0))
    left, right = axis.at(end - seconds), axis.at(end)
    what = " ".join(str(event[key]) for key in ("process", "release") if event.get(key))
    word = str(event.get("text")) if failed else kind
    title = f"{word} {what}, {seconds:.1f} s".replace("  ", " ")
    return Bar(kind if kind in KINDS else "start", left, right - left, failed, title)


def _depth(bar: Bar) -> tuple[bool, float]:
    """Watching lies behind all else; then by time."""
    return bar.kind != "watch", bar.left
