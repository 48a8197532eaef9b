"""Many small jobs at once, in one thread: a job is a generator that yields what it waits for.

A job yields `Ask` (a call to one host; it gets the answer, or the HostError is raised inside it),
`Pause` (seconds) or `Settled` (until nothing that was asked of a host is under way any more). All
decisions are made here, one after the other, so no state needs a lock; only the calls themselves
run elsewhere (port.Hands). `before_asking` is called before calls leave: whoever writes a journal
makes durable there what the calls are about to do.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backline.transport.port import Clock, Ended, Hands, HostError, Outcome

WIDTH = 32
TICK = 0.5
SPARE_SECONDS = 2.0
"""How much longer than a call's own deadline we wait for its thread."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A call to a host. `idle`: it only waits over there, takes no place, and may be dropped."""

    host: str
    work: Callable[[], Any]
    deadline: float
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to do for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Settled:
    """Until no call that may change `host` is under way."""

    host: str


Wish = Ask | Pause | Settled
Job = Generator[Wish, Any, Any]


@dataclass(eq=False, slots=True)
class _Task:
    name: str
    job: Job
    background: bool
    over: bool = False


@dataclass(slots=True)
class _Flight:
    task: _Task
    ask: Ask


@dataclass(slots=True)
class _State:
    ready: deque[tuple[_Task, Any, BaseException | None]] = field(default_factory=deque)
    queue: deque[tuple[_Task, Ask]] = field(default_factory=deque)
    timers: list[tuple[float, int, _Task]] = field(default_factory=list)
    settling: list[tuple[_Task, str]] = field(default_factory=list)
    flying: dict[int, _Flight] = field(default_factory=dict)


class Crew:
    """Runs jobs; see the module's words."""

    def __init__(
        self,
        hands: Hands,
        clock: Clock,
        *,
        before_asking: Callable[[], None] = lambda: None,
        width: int = WIDTH,
    ) -> None:
        self.hands = hands
        self.clock = clock
        self.before_asking = before_asking
        self.width = width
        self._state = _State()
        self._busy = 0
        self._changing: dict[str, int] = {}
        self._count = itertools.count(1)

    def background(self, name: str, job: Job) -> None:
        """Runs a job beside all others, during every `run`; an error in it ends that `run`."""
        self._state.ready.append((_Task(name, job, True), None, None))

    def run(
        self,
        jobs: Mapping[str, Job],
        done: Callable[[str, Outcome[Any]], None] = lambda name, outcome: None,
        until: Callable[[], bool] = lambda: False,
    ) -> dict[str, Outcome[Any]]:
        """Runs jobs to their ends; returns what each returned, or the HostError that ended it.

        `done` is called as each ends; when `until` says so, the others are left. What either raises,
        what a background job raises, and any error of a job that is no HostError ends all jobs (their
        calls may still be under way, see `Settled`) and is raised here.
        """
        tasks = {name: _Task(name, job, False) for name, job in jobs.items()}
        outcomes: dict[str, Outcome[Any]] = {}
        self._state.ready.extend((task, None, None) for task in tasks.values())

        def ended(task: _Task, outcome: Outcome[Any]) -> None:
            outcomes[task.name] = outcome
            done(task.name, outcome)

        try:
            while True:
                self._decide(ended)
                if len(outcomes) == len(tasks) or until():
                    break
                self._act()
        finally:
            for task in tasks.values():
                self._drop(task)
        return {name: outcomes[name] for name in jobs if name in outcomes}

    def give_up(self, host: str, error: HostError) -> None:
        """Answers all calls to `host` that are under way with `error`: it does not answer any more.

        Calls of background jobs go on, so that somebody notices when the host is back.
        """
        for ticket, flight in list(self._state.flying.items()):
            if flight.ask.host == host and not flight.task.background:
                self._arrive(Ended(ticket, None, error))

    def rest(self, seconds: float) -> None:
        """Lets the background jobs work for a while."""
        self.run({"rest": _rest(seconds)})

    def stop(self) -> None:
        """Ends the background jobs."""
        state = self._state
        tasks = [entry[0] for entry in state.ready] + [task for task, _ in state.queue]
        tasks += [task for task, _ in state.settling] + [task for _, _, task in state.timers]
        tasks += [flight.task for flight in state.flying.values()]
        for task in dict.fromkeys(tasks):
            self._drop(task)

    def _decide(self, ended: Callable[[_Task, Outcome[Any]], None]) -> None:
        """Lets every job that got what it waited for go on."""
        state = self._state
        while state.ready:
            task, value, error = state.ready.popleft()
            if not task.over:
                self._advance(task, value, error, ended)

    def _act(self) -> None:
        """Sends the calls that follow from what was decided, and waits until anything happens."""
        state = self._state
        self._send()
        for arrival in self.hands.wait(self._patience()):
            self._arrive(arrival)
        now = self.clock.monotonic()
        while state.timers and state.timers[0][0] <= now:
            _, _, task = heapq.heappop(state.timers)
            state.ready.append((task, None, None))

    def _advance(
        self,
        task: _Task,
        value: Any,
        error: BaseException | None,
        ended: Callable[[_Task, Outcome[Any]], None],
    ) -> None:
        try:
            wish = task.job.throw(error) if error is not None else task.job.send(value)
        except StopIteration as stop:
            task.over = True
            if not task.background:
                ended(task, Outcome(stop.value))
            return
        except HostError as trouble:
            task.over = True
            if task.background:
                raise
            ended(task, Outcome(error=trouble))
            return
        match wish:
            case Ask():
                self._state.queue.append((task, wish))
            case Pause():
                when = self.clock.monotonic() + wish.seconds
                heapq.heappush(self._state.timers, (when, next(self._count), task))
            case Settled():
                self._settle(task, wish.host)

    def _settle(self, task: _Task, host: str) -> None:
        if self._changing.get(host):
            self._state.settling.append((task, host))
        else:
            self._state.ready.append((task, None, None))

    def _send(self) -> None:
        """Calls leave in the order they were asked for; those that only wait need no place."""
        state = self._state
        leaving: list[tuple[_Task, Ask]] = []
        kept: deque[tuple[_Task, Ask]] = deque()
        while state.queue:
            task, ask = state.queue.popleft()
            if task.over:
                continue
            if ask.idle or task.background or self._busy < self.width:
                leaving.append((task, ask))
                self._busy += self._counts(task, ask)
            else:
                kept.append((task, ask))
        state.queue = kept
        if leaving:
            self.before_asking()
        for task, ask in leaving:
            ticket = next(self._count)
            state.flying[ticket] = _Flight(task, ask)
            if not ask.idle:
                self._changing[ask.host] = self._changing.get(ask.host, 0) + 1
            self.hands.begin(ticket, ask.host, ask.work, ask.deadline + SPARE_SECONDS)

    def _arrive(self, arrival: Ended) -> None:
        flight = self._state.flying.pop(arrival.ticket, None)
        if flight is None:
            return
        task, ask = flight.task, flight.ask
        self._busy -= self._counts(task, ask)
        if not ask.idle:
            self._changing[ask.host] -= 1
            if not self._changing[ask.host]:
                self._wake(ask.host)
        if not task.over:
            self._state.ready.append((task, arrival.value, arrival.error))

    def _wake(self, host: str) -> None:
        waiting, self._state.settling = self._state.settling, []
        for task, name in waiting:
            if name == host:
                self._state.ready.append((task, None, None))
            else:
                self._state.settling.append((task, name))

    def _patience(self) -> float:
        if not self._state.timers:
            return TICK
        return min(TICK, max(0.0, self._state.timers[0][0] - self.clock.monotonic()))

    @staticmethod
    def _counts(task: _Task, ask: Ask) -> int:
        return 0 if ask.idle or task.background else 1

    def _drop(self, task: _Task) -> None:
        if not task.over:
            task.over = True
            task.job.close()


def _rest(seconds: float) -> Job:
    yield Pause(seconds)
