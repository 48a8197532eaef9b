"""What the probe's requests say of a release; and what a run does with it."""

from __future__ import annotations

from backline.rollout.judge import ENOUGH, judge, percentile
from backline.rollout.sample import Sample

OLD, NEW = "old", "new"


def samples(
    count: int, ms: float = 20, failed: int = 0, release: str | None = NEW, seconds: float = 10.0
) -> list[Sample]:
    """So many answers, spread over `seconds`."""
    times = [seconds * number / max(1, count - 1) for number in range(count)]
    good = [Sample(time, ms, 200, None, release, "/") for time in times[failed:]]
    return good + [Sample(0, ms, 502, None, None, "/songs") for _ in range(failed)]


def test_as_good_as_before_is_well() -> None:
    verdict = judge(samples(50, release=OLD), samples(50), NEW, [OLD])
    assert verdict.well is True and verdict.reasons == ()
    assert verdict.numbers["requests"] == 50 and verdict.numbers["failed"] == 0


def test_too_few_requests_say_nothing() -> None:
    assert judge(samples(50, release=OLD), samples(ENOUGH - 1), NEW, [OLD]).well is None
    assert judge([], [], NEW, []).well is None


def test_errors_count_even_before_there_is_enough() -> None:
    verdict = judge(samples(50, release=OLD), samples(5, failed=3), NEW, [OLD])
    assert verdict.well is False
    assert "3 of 5 requests failed" in verdict.reasons[0] and "/songs: 502" in verdict.reasons[0]


def test_two_errors_are_no_verdict() -> None:
    assert judge(samples(50, release=OLD), samples(30, failed=2), NEW, [OLD]).well is True


def test_errors_that_were_there_before_are_not_held_against_the_release() -> None:
    before = samples(100, failed=20, release=OLD)
    assert judge(before, samples(50, failed=10), NEW, [OLD]).well is True
    assert judge(before, samples(50, failed=15), NEW, [OLD]).well is False


def test_errors_of_the_release_before_at_the_same_time_are_its_own() -> None:
    during = samples(40) + [Sample(0, 20, 500, None, OLD, "/") for _ in range(10)]
    assert judge(samples(50, release=OLD), during, NEW, [OLD]).well is True


def test_slower_counts_when_it_is_both_much_and_many_times() -> None:
    def well(before: float, now: float) -> bool | None:
        return judge(samples(30, before, release=OLD), samples(30, now), NEW, [OLD]).well

    assert well(20, 260) is True  # thirteen times, and nobody notices a quarter of a second
    assert well(20, 300) is False
    assert well(400, 700) is True  # not twice
    assert well(400, 900) is False


def test_a_hiccup_is_no_verdict() -> None:
    before = samples(100, release=OLD)
    assert judge(before, samples(33, 305, seconds=1.7), NEW, [OLD]).well is True
    assert judge(before, samples(33, 305, seconds=6.0), NEW, [OLD]).well is False


def test_slowness_that_the_old_release_shares_is_not_held_against_the_new_one() -> None:
    before = samples(100, release=OLD)
    assert judge(before, samples(50, 900) + samples(50, 700, release=OLD), NEW, [OLD]).well is True
    assert judge(before, samples(50, 900) + samples(50, release=OLD), NEW, [OLD]).well is False
    alone = judge(before, samples(50, 900) + samples(2, 700, release=OLD), NEW, [OLD])
    assert alone.well is False, "two answers say nothing of the old release"


def test_latency_says_nothing_without_a_comparison() -> None:
    assert judge([], samples(30, 5000), NEW, []).well is True


def test_percentile() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(100), 0.99) == 99
