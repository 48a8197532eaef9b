"""Counts what the load saw: by kind, by failure, by window of time."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Failures that are kept with all that is known of them; the others are only counted.
MOST_DETAILS = 200


def percentiles(latencies: array[float]) -> dict[str, float]:
    """p50, p90, p99 and max, in ms; empty without any."""
    ordered = sorted(latencies)
    if not ordered:
        return {}
    last = len(ordered) - 1
    found = {f"p{share}": ordered[round(last * share / 100)] for share in (50, 90, 99)}
    return {name: round(ms, 1) for name, ms in {**found, "max": ordered[last]}.items()}


@dataclass
class Window:
    """A stretch of time with a name; a request belongs to the one in which it was due."""

    name: str
    since: float
    until: float = 0.0
    latencies: dict[str, array[float]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, ms: float, failure: str | None, release: str | None) -> None:
        self.latencies.setdefault(kind, array("d")).append(ms)
        if failure:
            self.failures[failure] += 1
        if release:
            self.releases[release] += 1

    def report(self) -> dict[str, Any]:
        """As the result shows it: times in seconds since the epoch, latencies in ms."""
        return {
            "name": self.name,
            "from": self.since,
            "to": self.until,
            **_summary([self]),
        }


class Tally:
    """All windows of a run. Latencies are those of every short request, answered well or not."""

    def __init__(self) -> None:
        self.windows = [Window("start", time.time())]
        self.details: list[dict[str, Any]] = []
        self.latest_ms = 0.0

    @property
    def window(self) -> Window:
        """The one that is open now."""
        return self.windows[-1]

    def mark(self, name: str) -> None:
        """Ends the open window and starts another."""
        now = self.window.until = time.time()
        self.windows.append(Window(name, now))

    def add(
        self,
        window: Window,
        kind: str,
        path: str,
        ms: float,
        failure: str | None,
        release: str | None,
    ) -> None:
        """One short request, due in `window`."""
        window.add(kind, ms, f"{kind} {path}: {failure}" if failure else None, release)
        if failure and len(self.details) < MOST_DETAILS:
            told = {"at": round(time.time() - ms / 1000, 3), "ms": round(ms, 1)}
            known = {"kind": kind, "path": path, "error": failure, "release": release}
            self.details.append({**told, "window": window.name, **known})

    @property
    def requests(self) -> int:
        return sum(len(found) for window in self.windows for found in window.latencies.values())

    @property
    def failed(self) -> int:
        return sum(sum(window.failures.values()) for window in self.windows)

    def report(self) -> dict[str, Any]:
        """Overall and by window."""
        self.window.until = time.time()
        return {
            **_summary(self.windows),
            "windows": [window.report() for window in self.windows],
            "details": self.details,
            "latest_ms": round(self.latest_ms, 1),
        }


def _summary(windows: list[Window]) -> dict[str, Any]:
    kinds: dict[str, array[float]] = {}
    failures: Counter[str] = Counter()
    releases: Counter[str] = Counter()
    for window in windows:
        for kind, found in window.latencies.items():
            kinds.setdefault(kind, array("d")).extend(found)
        failures += window.failures
        releases += window.releases
    whole = array("d")
    for found in kinds.values():
        whole.extend(found)
    return {
        "requests": len(whole),
        "failed": sum(failures.values()),
        "counts": {kind: len(found) for kind, found in sorted(kinds.items())},
        "failures": dict(failures.most_common()),
        "releases": dict(releases),
        "latency_ms": percentiles(whole),
        "latency_ms_by_kind": {kind: percentiles(found) for kind, found in sorted(kinds.items())},
    }
