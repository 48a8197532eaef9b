"""The probe's requests through a run: counts and latencies by second and release. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from backline.rollout.axis import Axis
from backline.rollout.judge import percentile
from backline.rollout.sample import Sample

BUCKETS = 240
"""At most so many buckets; a long run has wider ones than a second."""
FAILED = "failed"
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass
class Bucket:
    """The requests that were due within one span of time. `ms`: of those that went well, by release."""

    at: float
    ms: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(map(len, self.ms.values())) + self.failed

    def as_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "at": self.at,
            "requests": self.requests,
            "failed": self.failed,
            "releases": {
                release: {
                    "requests": len(ms),
                    "p50_ms": percentile(ms, 0.5),
                    "p99_ms": percentile(ms, 0.99),
                }
                for release, ms in self.ms.items()
            },
        }


@dataclass(frozen=True)
class Block:
    """A rectangle of the chart, in percent of its width and height, from the bottom."""

    kind: str
    left: float
    width: float
    bottom: float
    height: float
    title: str


@dataclass(frozen=True)
class Line:
    """One percentile of one release; `points` of each stretch without a hole: (x, y) in percent."""

    kind: str
    share: str
    stretches: tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True)
class Charts:
    """What the two charts show; the scales are (percent from the bottom, label)."""

    blocks: list[Block]
    lines: list[Line]
    rates: list[tuple[float, str]]
    latencies: list[tuple[float, str]]
    width: int


@dataclass(frozen=True)
class _Scale:
    """Milliseconds on a logarithmic scale: one slow answer must not flatten all others."""

    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> _Scale:
        low = 10.0 ** math.floor(math.log10(max(0.1, min(values, default=1.0))))
        return _Scale(low, max(_top(max(values, default=10.0)), 10 * low))

    def at(self, ms: float) -> float:
        """Percent from the bottom."""
        share = math.log(max(ms, self.low) / self.low) / math.log(self.high / self.low)
        return 100.0 * min(1.0, share)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """A label at each power of ten, and at the top."""
        powers = [self.low * 10**n for n in range(1, 8) if self.low * 10**n < self.high / 2.4]
        return [(round(self.at(ms), 2), f"{ms:g} ms") for ms in (*powers, self.high)]


def buckets(samples: Iterable[Sample], begin: float, width: int) -> list[Bucket]:
    """Samples by the moment they were due, `width` seconds together, those without a sample left out."""
    found: dict[int, Bucket] = {}
    for sample in samples:
        number = int((sample.at - begin) // width)
        bucket = found.setdefault(number, Bucket(begin + number * width))
        if sample.ok:
            bucket.ms.setdefault(sample.release or "", []).append(sample.ms)
        else:
            bucket.failed += 1
    return [found[number] for number in sorted(found)]


def charts(found: Sequence[Bucket], axis: Axis, new: str, width: int) -> Charts:
    """The geometry of both charts. `new`: the run's release; all others count as before it."""
    rate = _top(1.03 * max((b.requests / width for b in found), default=1.0))
    scale = _Scale.of([value for b in found for ms in b.ms.values() for value in _both(ms)])
    blocks = [block for b in found for block in _stack(b, axis, new, width, rate)]
    lines = [
        Line(kind, name, _stretches(found, axis, new, kind, share, scale, width))
        for kind in ("old", "new")
        for name, share in (("p99", 0.99), ("p50", 0.5))
    ]
    return Charts(blocks, lines, _scale(rate, "/s"), scale.marks, width)


def bucket_width(axis: Axis) -> int:
    """Seconds per bucket."""
    return max(1, math.ceil(axis.seconds / BUCKETS))


def reasons(samples: Iterable[Sample], most: int = 8) -> list[tuple[int, str]]:
    """What failed, the commonest first: (how often, what)."""
    found: dict[str, int] = {}
    for sample in samples:
        if not sample.ok:
            what = f"{sample.path}: {sample.error or sample.status}"
            found[what] = found.get(what, 0) + 1
    return sorted(((count, what) for what, count in found.items()), reverse=True)[:most]


def _kind(release: str, new: str) -> str:
    return "new" if release == new else "old"


def _stack(bucket: Bucket, axis: Axis, new: str, width: int, top: float) -> list[Block]:
    """Answers of the old release, of the new one, and failures, on top of each other."""
    counts = {"old": 0, "new": 0, FAILED: bucket.failed}
    for release, ms in bucket.ms.items():
        counts[_kind(release, new)] += len(ms)
    left, right = axis.at(bucket.at), axis.at(bucket.at + width)
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    blocks, bottom = [], 0.0
    for kind, count in counts.items():
        height = 100.0 * count / width / top
        if count and right > left:
            room = max(height, 2.0) if kind == FAILED else height  # one failure is to be seen
            blocks.append(Block(kind, left, right - left, bottom, round(room, 2), said))
        bottom = round(bottom + height, 2)
    return blocks


def _stretches(
    found: Sequence[Bucket],
    axis: Axis,
    new: str,
    kind: str,
    share: float,
    scale: _Scale,
    width: int,
) -> tuple[tuple[tuple[float, float], ...], ...]:
    stretches: list[list[tuple[float, float]]] = []
    last = -math.inf
    for bucket in found:
        ms = [value for r, values in bucket.ms.items() if _kind(r, new) == kind for value in values]
        value = percentile(ms, share)
        if value is None:
            continue
        if bucket.at - last > 1.5 * width:
            stretches.append([])
        last = bucket.at
        place = axis.at(bucket.at + width / 2)
        stretches[-1].append((place, round(scale.at(value), 2)))
    return tuple(tuple(stretch) for stretch in stretches)


def _both(ms: Sequence[float]) -> list[float]:
    return [value for share in (0.5, 0.99) if (value := percentile(ms, share)) is not None]


def _top(value: float) -> float:
    """The end of a scale: the next round number."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(nice * power for nice in NICE if nice * power >= value - 1e-9)


def _scale(top: float, unit: str) -> list[tuple[float, str]]:
    """Two marks at round numbers."""
    fifths = f"{top:e}"[:3] in ("2.5", "5.0")
    shares = (0.4, 0.8) if fifths else (0.5, 1.0)
    return [(share * 100.0, f"{top * share:g}{unit}") for share in shares]
