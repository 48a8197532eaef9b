"""Work on many hosts at once: so many at a time, each with a deadline of its own.

Fabric's ThreadingGroup starts a thread per host without a limit and joins them without a timeout, so
that one hung host holds up everybody. Here a piece of work that passes its deadline is reported as
unreachable, its place goes to the next one, and its thread (a daemon) is left to end by itself.
"""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from backline.transport.port import Ended, HostError, Outcome, Reply, Unreachable

T = TypeVar("T")
WIDTH = 32
IDLE_SECONDS = 5.0
HELD_SECONDS = 0.2
"""How often work that we hold up is looked at, once its time would be over."""


class Threads:
    """Implements port.Hands: a daemon thread for each piece of work that is under way.

    Threads that are done take the next piece: on a busy machine starting one costs more than a call.

    `abandon(host)` is called for a host whose work is given up, to cut what its thread hangs on.
    `held(host)`: for how many seconds so far we, not the host, held up its work. They do not count.
    """

    def __init__(
        self,
        abandon: Callable[[str], object] = lambda host: None,
        held: Callable[[str], float] = lambda host: 0.0,
    ) -> None:
        self.abandon, self.held = abandon, held
        self._results: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[tuple[int, Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._running: dict[int, tuple[str, float]] = {}
        self._ends: list[tuple[float, int, float]] = []

    def begin(self, ticket: int, host: str, work: Callable[[], Any], deadline: float) -> None:
        """See port.Hands."""
        end = time.monotonic() + deadline
        self._running[ticket] = (host, end - self.held(host))
        heapq.heappush(self._ends, (end, ticket, deadline))
        with self._lock:
            free = self._idle > 0
            self._idle -= free
        if free:
            self._work.put((ticket, work))
        else:
            words = (ticket, work)
            threading.Thread(
                target=self._serve, args=words, name=f"host {host}", daemon=True
            ).start()

    def _serve(self, ticket: int, work: Callable[[], Any]) -> None:
        """A thread's life: this piece of work, then others, until there is none for a while.

        `_idle` counts the threads that wait and for which no work lies ready yet.
        """
        while True:
            try:
                ended = Ended(ticket, work(), None)
            except BaseException as error:  # noqa: BLE001 (carried over to the caller's thread)
                ended = Ended(ticket, None, error)
            with self._lock:
                self._idle += 1
            self._results.put(ended)
            del ended, work
            while True:
                try:
                    ticket, work = self._work.get(timeout=IDLE_SECONDS)
                    break
                except queue.Empty:
                    with self._lock:
                        if self._idle:
                            self._idle -= 1
                            return

    def wait(self, seconds: float) -> list[Ended]:
        """See port.Hands."""
        end = time.monotonic() + seconds
        while True:
            found = self._ended() + self._late()
            now = time.monotonic()
            if found or now >= end:
                return found
            first = self._ends[0][0] if self._ends else end
            try:
                found = self._known(self._results.get(timeout=max(0.0, min(end, first) - now)))
            except queue.Empty:
                continue
            if found:
                return found + self._ended()

    def _ended(self) -> list[Ended]:
        found: list[Ended] = []
        while True:
            try:
                found += self._known(self._results.get_nowait())
            except queue.Empty:
                return found

    def _known(self, ended: Ended) -> list[Ended]:
        """Nothing for work that was given up before."""
        return [ended] if self._running.pop(ended.ticket, None) else []

    def _late(self) -> list[Ended]:
        found = []
        while self._ends and (
            self._ends[0][1] not in self._running or self._ends[0][0] <= time.monotonic()
        ):
            _, ticket, deadline = heapq.heappop(self._ends)
            if ticket in self._running:
                host, end = self._running[ticket]
                now = time.monotonic()
                if end + self.held(host) > now:
                    later = max(end + self.held(host), now + HELD_SECONDS)
                    heapq.heappush(self._ends, (later, ticket, deadline))
                    continue
                del self._running[ticket]
                self.abandon(host)
                found.append(Ended(ticket, None, too_late(host, deadline)))
        return found


def each(
    hosts: Iterable[str],
    work: Callable[[str], T],
    *,
    deadline: float,
    width: int = WIDTH,
    done: Callable[[str, Outcome[T]], None] | None = None,
    abandon: Callable[[str], object] = lambda host: None,
) -> dict[str, Outcome[T]]:
    """Runs `work(host)` for every host, at most `width` at once; returns outcomes in the hosts' order.

    A host has `deadline` seconds from its own start. `done(host, outcome)` is called in this thread
    as hosts end; `abandon(host)` for one that is given up. An error that is no HostError (a fault
    of ours, not of the host) is raised here.
    """
    order = list(dict.fromkeys(hosts))
    waiting = deque(enumerate(order))
    hands = Threads(abandon)
    outcomes: dict[str, Outcome[T]] = {}
    running = 0
    while waiting or running:
        while waiting and running < width:
            number, host = waiting.popleft()
            hands.begin(number, host, lambda host=host: work(host), deadline)  # type: ignore[misc]
            running += 1
        for ended in hands.wait(3600.0):
            running -= 1
            if ended.error is not None and not isinstance(ended.error, HostError):
                raise ended.error
            host = order[ended.ticket]
            outcomes[host] = Outcome(ended.value, ended.error)
            if done:
                done(host, outcomes[host])
    return {host: outcomes[host] for host in order}


def too_late(
    host: str, deadline: float, reply: Reply | None = None, sent: bool = True
) -> Unreachable:
    """The error of a host that did not answer within `deadline` seconds."""
    hint = "what it did until then is not known: `fab status` asks it again" if sent else ""
    why = f"no answer within {deadline:.0f} s"
    return Unreachable(host, why, code="deadline", hint=hint, reply=reply, sent=sent)
