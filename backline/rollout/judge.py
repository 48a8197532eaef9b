"""What the probe's requests say of a release: well, ill, or not enough to tell. Pure.

Ill is what listeners would notice: more errors than before, or answers much slower than those of
the release before, at the same time. Both are compared with what was measured in this same run, so
a slow machine or an old fault is not held against the new release.
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
    theirs = [sample for sample in during if sample.release in former] + list(before)
    failed = sum(not sample.ok for sample in ours)
    share, usual = _share(ours), _share(theirs)
    mine, other = _median(ours), _median(theirs)
    reasons = []
    if failed >= ERRORS and share > usual + ERROR_SHARE:
        reasons.append(
            f"{failed} of {len(ours)} requests failed ({share:.1%}, before {usual:.1%}): "
            + _commonest(ours)
        )
    enough = min(len(ours), len(theirs)) >= ENOUGH
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


def _commonest(samples: Iterable[Sample]) -> str:
    found: dict[str, int] = {}
    for sample in samples:
        if not sample.ok:
            what = f"{sample.path}: {sample.error or sample.status}"
            found[what] = found.get(what, 0) + 1
    return max(found, key=lambda what: found[what])
