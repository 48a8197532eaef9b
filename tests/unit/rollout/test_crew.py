"""Many jobs in one thread: who goes when, and what becomes of the others when one fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_fleet import FakeClock, FakeFleet, FakeHands

from backline.rollout.crew import Ask, Crew, Job, Pause, Settled
from backline.transport.port import HostError


class Desk:
    """A crew on fake hands, and what it did, in order."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet([], self.clock)
        self.hands = FakeHands(self.fleet, self.clock)
        self.said: list[str] = []
        flushed = lambda: self.said.append("flush")  # noqa: E731
        self.crew = Crew(self.hands, self.clock, before_asking=flushed, **options)

    def ask(self, host: str, takes: float = 0, idle: bool = False, code: str = "") -> Ask:
        def work() -> str:
            self.said.append(host)
            self.fleet.takes = takes
            if code:
                raise HostError(host, code, code=code)
            return f"answer of {host}"

        return Ask(host, work, 30.0, idle)

    def job(self, *asks: Ask | Pause | Settled) -> Job:
        found = None
        for ask in asks:
            found = yield ask
        return found


def test_calls_leave_in_order_after_one_flush() -> None:
    desk = Desk()
    outcomes = desk.crew.run({h: desk.job(desk.ask(h)) for h in ("b", "a", "c")})
    assert desk.said == ["flush", "b", "a", "c"]
    assert [outcomes[h].value for h in outcomes] == ["answer of b", "answer of a", "answer of c"]


def test_no_more_calls_at_once_than_its_width_but_for_those_that_only_wait() -> None:
    desk = Desk(width=2)
    jobs = {h: desk.job(desk.ask(h, takes=5)) for h in "abcd"}
    jobs["idle"] = desk.job(desk.ask("idle", takes=1, idle=True))
    most = 0
    wait = desk.hands.wait

    def counted(seconds: float) -> Any:
        nonlocal most
        most = max(most, len(desk.hands.waiting) + len(desk.hands.later))
        return wait(seconds)

    desk.hands.wait = counted  # type: ignore[method-assign]
    desk.crew.run(jobs)
    assert most == 3  # two, and the one that takes no place
    assert desk.clock.now - FakeClock().now == pytest.approx(10, abs=1)


def test_a_host_error_ends_its_own_job_alone() -> None:
    desk = Desk()
    outcomes = desk.crew.run(
        {"a": desk.job(desk.ask("a", code="broken")), "b": desk.job(desk.ask("b"))}
    )
    assert outcomes["a"].error and outcomes["a"].error.code == "broken"
    assert outcomes["b"].value == "answer of b"


def test_an_error_of_ours_ends_all_jobs() -> None:
    desk = Desk()
    closed: list[str] = []

    def faulty() -> Job:
        yield Pause(1)
        raise ValueError("ours")

    def other() -> Job:
        try:
            yield Pause(100)
        finally:
            closed.append("other")

    with pytest.raises(ValueError, match="ours"):
        desk.crew.run({"a": faulty(), "b": other()})
    assert closed == ["other"]


@pytest.mark.parametrize("error", [HostError("h", "no"), RuntimeError("no")])
def test_an_error_in_the_background_ends_the_run_that_goes_on(error: Exception) -> None:
    desk = Desk()

    def background() -> Job:
        yield Pause(2)
        raise error

    desk.crew.background("judge", background())
    with pytest.raises(type(error), match="no"):
        desk.crew.run({"a": desk.job(Pause(10))})
    desk.crew.run({"a": desk.job(Pause(1))})  # once; the next run is not bothered


def test_a_background_job_works_during_every_run_and_ends_with_stop() -> None:
    desk = Desk()
    beats: list[float] = []

    def beating() -> Job:
        while True:
            yield Pause(5)
            beats.append(desk.clock.now)

    desk.crew.background("lease", beating())
    desk.crew.run({"a": desk.job(Pause(12))})
    desk.crew.rest(5)
    assert len(beats) == 3
    desk.crew.stop()
    desk.crew.rest(20)
    assert len(beats) == 3


def test_settled_waits_for_what_was_asked_of_that_host_before() -> None:
    """A call that nobody listens to any more may still change its host: the way back waits."""
    desk = Desk()
    with pytest.raises(ValueError):
        desk.crew.run({"a": desk.job(desk.ask("a", takes=9)), "b": fails_after(desk, 2)})
    began = desk.clock.now
    desk.crew.run({"back b": desk.job(Settled("b"))})
    assert desk.clock.now == began
    desk.crew.run({"back a": desk.job(Settled("a"), desk.ask("a"))})
    assert desk.clock.now - began == pytest.approx(7, abs=0.5)


def fails_after(desk: Desk, seconds: float) -> Job:
    yield Pause(seconds)
    raise ValueError


def test_settled_does_not_wait_for_a_call_that_only_waits() -> None:
    desk = Desk()
    with pytest.raises(ValueError):
        desk.crew.run(
            {"a": desk.job(desk.ask("a", takes=60, idle=True)), "b": fails_after(desk, 2)}
        )
    began = desk.clock.now
    desk.crew.run({"back": desk.job(Settled("a"))})
    assert desk.clock.now == began


def test_calls_of_a_dropped_job_that_have_not_left_never_do() -> None:
    desk = Desk(width=1)
    stop: Callable[..., None] = lambda name, outcome: (_ for _ in ()).throw(ValueError)  # noqa: E731
    with pytest.raises(ValueError):
        desk.crew.run({h: desk.job(desk.ask(h)) for h in "abc"}, stop)
    desk.crew.rest(1)
    assert "c" not in desk.said


def test_until_leaves_the_others_where_they_are() -> None:
    desk = Desk()
    began = desk.clock.now
    outcomes = desk.crew.run(
        {"short": desk.job(Pause(2)), "long": desk.job(Pause(600))},
        until=lambda: desk.clock.now > began + 3,
    )
    assert list(outcomes) == ["short"] and desk.clock.now - began < 10
