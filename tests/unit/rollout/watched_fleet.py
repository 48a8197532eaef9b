"""A fleet that several controllers reach, one after the other or one while another sleeps.

Each controller has a way of its own to the hosts (`Controller`), which can be cut: killed at any
call or journal flush, or put to sleep inside a call while others take over. What a killed one had
sent may still arrive. After every change the fleet looks for what must never be (`Watched`).
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_fleet import KINDS, FakeFleet, FakeHost, Hangs

from backline.rollout.strategy import Strategy
from backline.transport.port import Ended, HostError, Outcome, Unreachable

TAKES_OVER = 61.0
"""Seconds after which the lease of a controller that is gone has run out."""


class Killed(BaseException):
    """kill -9: nothing of the controller runs after this."""


class Watched(FakeFleet):
    """Checks every host after every change; `strategy` says what capacity must be kept."""

    def __init__(self, hosts: Iterable[FakeHost]) -> None:
        super().__init__(hosts)
        self.strategy = Strategy()
        self.before = {
            (host.name, process): host.live.get(process)
            for host in self.hosts.values()
            for process in host.processes
        }
        self.ghosts: list[Callable[[], Any]] = []
        self.dice: random.Random | None = None

    def land_ghosts(self) -> None:
        """What a controller sent before it was killed arrives after all, or never."""
        ghosts, self.ghosts = self.ghosts, []
        for work in ghosts:
            if self.dice and self.dice.random() < 0.5:
                with contextlib.suppress(HostError, Hangs):
                    work()

    def _invariants(self) -> None:
        super()._invariants()
        self._nothing_twice()
        for process in {name for host in self.hosts.values() for name in host.processes}:
            if KINDS[process] == "http":
                self._floor(process)

    def _nothing_twice(self) -> None:
        for host in self.hosts.values():
            twice = [what for what, times in Counter(host.done).items() if times > 1]
            assert not twice, f"done twice on {host.name}: {twice}"

    def _floor(self, process: str) -> None:
        """Enough hosts serve a release that runs and that was checked, or ran before the run."""
        hosts = [host for host in self.hosts.values() if process in host.processes]
        if any(self.before[host.name, process] is None for host in hosts):
            return
        serve = [host.name for host in hosts if self._serves(host, process)]
        floor = len(hosts) - self.strategy.most_at_once(len(hosts))
        assert len(serve) >= floor, f"only {serve} serve {process}, of {len(hosts)} hosts"

    def _serves(self, host: FakeHost, process: str) -> bool:
        live = host.live.get(process)
        proven = (process, live) in host.checked or live == self.before[host.name, process]
        return bool(proven and live in host.running[process] and not host.drained)


class WildHands:
    """Any interleaving: which waiting call is next, or that time passes first, is a dice's throw.

    Without dice, calls are done in the order in which they were begun.
    """

    def __init__(self, port: Controller, dice: random.Random | None) -> None:
        self.port, self.dice, self.clock = port, dice, port.fleet.clock
        self.waiting: list[tuple[int, str, Callable[[], Any], float]] = []
        self.later: list[tuple[float, Ended]] = []

    def begin(self, ticket: int, host: str, work: Callable[[], Any], deadline: float) -> None:
        self.waiting.append((ticket, host, work, self.clock.now + deadline))

    def wait(self, seconds: float) -> list[Ended]:
        count = len(self.waiting)
        chosen = self.dice.randrange(count + 1) if self.dice and count else 0
        if chosen < count:
            return self._do(chosen)
        ends = [when for when, _ in self.later] + [end for *_, end in self.waiting]
        until = min([self.clock.now + seconds, *ends])
        self.clock.now = max(self.clock.now, until)
        return self._over()

    def _do(self, chosen: int) -> list[Ended]:
        ticket, host, work, end = self.waiting.pop(chosen)
        self.port.fleet.takes = 0.0
        try:
            ended = Ended(ticket, work(), None)
        except Hangs:
            error = Unreachable(host, "no answer in time", code="deadline")
            self.later.append((end, Ended(ticket, None, error)))
            return []
        except HostError as trouble:
            ended = Ended(ticket, None, trouble)
        if not self.port.fleet.takes:
            return [ended]
        self.later.append((self.clock.now + self.port.fleet.takes, ended))
        return []

    def _over(self) -> list[Ended]:
        """What has ended by now, and what was given up because it took too long to leave."""
        now = self.clock.now
        found = [ended for when, ended in self.later if when <= now]
        self.later = [entry for entry in self.later if entry[0] > now]
        late = [entry for entry in self.waiting if entry[3] <= now]
        self.waiting = [entry for entry in self.waiting if entry[3] > now]
        for ticket, host, _, _ in late:
            error = Unreachable(host, "no answer in time", code="deadline")
            found.append(Ended(ticket, None, error))
        return found


class Controller:
    """One controller's way to the fleet (a port.Fleet), and its journal.

    `cut`: at this call or flush, counted from 1, it is killed, or (with `asleep`) sleeps while
    that function runs.
    """

    head: Mapping[str, Any] | None = None

    def __init__(
        self,
        fleet: Watched,
        *,
        cut: int = 0,
        asleep: Callable[[], None] | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self.fleet, self.cut, self.asleep, self.dice = fleet, cut, asleep, dice
        self.count = 0
        self.dead = self.slept = self.ghost = False
        self.made: list[WildHands] = []

    def _event(self) -> None:
        if self.ghost:
            return
        if self.dead:
            raise Killed
        self.count += 1
        if self.count != self.cut:
            return
        if self.asleep:
            before = max(host.fence for host in self.fleet.hosts.values())
            self.asleep()
            self.slept = max(host.fence for host in self.fleet.hosts.values()) > before
        else:
            self.die()
            raise Killed

    def die(self) -> None:
        """From now on it does nothing; what it had begun may still arrive."""
        self.dead = True
        for hands in self.made:
            self.fleet.ghosts += [self._as_ghost(work) for _, _, work, _ in hands.waiting]
        self.fleet.land_ghosts()

    def _as_ghost(self, work: Callable[[], Any]) -> Callable[[], Any]:
        def arrive() -> None:
            self.ghost = True
            try:
                work()
            finally:
                self.ghost = False

        return arrive

    # The journal.

    def flush(self) -> None:
        self._event()

    # The port.

    def hands(self) -> WildHands:
        self.made.append(WildHands(self, self.dice))
        return self.made[-1]

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> dict[str, Any]:
        self._event()
        before = _seen(self.fleet)
        answer = self.fleet.call(host, verb, fields, deadline=deadline)
        if self.slept:
            assert _seen(self.fleet) == before, f"changed by a controller that slept: {host} {verb}"
        return answer

    def ship(self, host: str, files: Sequence[Path], progress: Any) -> int:
        self._event()
        return self.fleet.ship(host, files, progress)

    def discard(self, host: str, names: Iterable[str]) -> None:
        self._event()

    def each(
        self, hosts: Iterable[str], work: Any, *, deadline: float, done: Any = None
    ) -> dict[str, Outcome[Any]]:
        def bounded(host: str) -> Any:
            try:
                return work(host)
            except Hangs:
                raise Unreachable(host, "no answer in time", code="deadline") from None

        return self.fleet.each(hosts, bounded, deadline=deadline, done=done)


def _seen(fleet: FakeFleet) -> dict[str, Any]:
    """What listeners and queues notice of the fleet."""
    return {
        name: (dict(host.live), {p: set(r) for p, r in host.running.items()}, host.drained)
        for name, host in fleet.hosts.items()
    }
