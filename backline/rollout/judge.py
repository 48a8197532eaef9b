"""What the probe's requests say of a release: well, ill, or not enough to tell. Pure.

Ill is what listeners would notice: more errors than before, or, for some seconds, answers much slower
than before and than those of the old release at the same time. All is compared with what was measured
in this same run, so a slow machine or an old fault is not held against the new release.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backline.rollout.sample import Sample

ERRORS = 3
"""So many failed requests at least: one alone says nothing."""
ERROR_SHARE = 0.02
"""How much larger the share of errors may be than it was before."""
SLOWER, SLOWER_MS = 2.0, 250.0
"""The median may not be both so many times and so many milliseconds slower."""
ENOUGH = 20
"""Requests below which nothing is said of latency, nor that all is well."""
LASTS = 5.0
"""Seconds of requests below which nothing is said of latency: a hiccup is no verdict."""
FEW = 5
"""Requests of the old release at the same time that are enough to tell how fast it is now."""


@dataclass(frozen=True)
class Verdict:
    """`well` is None when there were too few requests to tell. `numbers` are for the report."""

    well: bool | None
    reasons: tuple[str, ...]
    numbers: dict[str, float | int | None]


def judge(
    before: Sequence[Sample], during: Sequence[Sample], new: str, old: Iterable[str]
) -> Verdict:
    """Judges release `new` by the requests since it serves, against those `before` it.

    Requests that say which release answered are compared by release; the others count for `new`,
    since it is what changed.
    """
    former = set(old)
    ours = [sample for sample in during if sample.release not in former]
    beside = [sample for sample in during if sample.release in former]
    theirs = beside + list(before)
    failed = sum(not sample.ok for sample in ours)
    share, usual = _share(ours), _share(theirs)
    mine, other = _median(ours), _usual_median(before, beside)
    reasons = []
    if failed >= ERRORS and share > usual + ERROR_SHARE:
        reasons.append(
            f"{failed} of {len(ours)} requests failed ({share:.1%}, before {usual:.1%}): "
            + _commonest(ours)
        )
    enough = min(len(ours), len(theirs)) >= ENOUGH and _seconds(ours) >= LASTS
    if enough and mine and other and mine > max(SLOWER * other, other + SLOWER_MS):
        reasons.append(f"half of its answers take longer than {mine:.0f} ms, before {other:.0f}")
    numbers: dict[str, float | int | None] = {
        "requests": len(ours),
        "failed": failed,
        "median_ms": mine,
        "usual_requests": len(theirs),
        "usual_failed": sum(not sample.ok for sample in theirs),
        "usual_median_ms": other,
    }
    well = False if reasons else True if len(ours) >= ENOUGH else None
    return Verdict(well, tuple(reasons), numbers)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The value that `share` (0 to 1) of all values do not exceed; None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _share(samples: Sequence[Sample]) -> float:
    return sum(not sample.ok for sample in samples) / len(samples) if samples else 0.0


def _median(samples: Iterable[Sample]) -> float | None:
    return percentile((sample.ms for sample in samples if sample.ok), 0.5)


def _usual_median(before: Sequence[Sample], beside: Sequence[Sample]) -> float | None:
    """How slow the old release is: before, or just now, whichever is slower."""
    known = [_median(before), _median(beside) if len(beside) >= FEW else None]
    return max((ms for ms in known if ms is not None), default=_median(beside))


def _seconds(samples: Sequence[Sample]) -> float:
    times = [sample.at for sample in samples]
    return max(times) - min(times) if times else 0.0


def _commonest(samples: Iterable[Sample]) -> str:
    found: dict[str, int] = {}
    for sample in samples:
        if not sample.ok:
            what = f"{sample.path}: {sample.error or sample.status}"
            found[what] = found.get(what, 0) + 1
    return max(found, key=lambda what: found[what])
