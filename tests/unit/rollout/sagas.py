"""A run and all who take it over, told against a watched fleet; and what must be true at the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_fleet import KINDS, FakeHost, Fault
from test_engine import NEW, OLD, release
from watched_fleet import TAKES_OVER, Controller, Killed, Watched

from backline.errors import BacklineError
from backline.release.model import ReleaseProcess
from backline.rollout import planner, preflight, strategy, takeover
from backline.rollout.cargo import Cargo
from backline.rollout.engine import Rollout
from backline.rollout.events import Event
from backline.rollout.lease import Run
from backline.rollout.plan import Plan
from backline.transport.port import HostError

SMALL = {"stream1": ("web",), "stream2": ("web",), "worker1": ("mail", "plays")}
BEAT = {"stream1": ("web",), "stream2": ("web", "mail"), "worker1": ("plays", "beat")}
LARGE = {f"stream{n}": ("web",) for n in range(1, 6)} | {
    "worker1": ("mail", "plays"),
    "worker2": ("plays",),
    "worker3": ("beat",),
}
FLEETS = {"small": SMALL, "beat": BEAT, "large": LARGE}
RUN = "run-1"


@dataclass
class Ended:
    """How one controller ended: `code` None when it was killed."""

    code: int | None
    said: str = ""
    hosts: tuple[str, ...] = ()
    state: str = ""
    events: list[Event] = field(default_factory=list)


class Saga:
    """A fleet, a plan, and the controllers that carry it out one after the other."""

    def __init__(
        self,
        folder: Path,
        processes: Mapping[str, tuple[str, ...]],
        *,
        action: str = "deploy",
        old: str | None = OLD,
        rules: Mapping[str, Any] | None = None,
        dice: random.Random | None = None,
        faults: tuple[Fault, ...] = (),
    ) -> None:
        self.folder, self.action, self.dice = folder, action, dice
        self.old, self.new = (old, NEW) if action == "deploy" else (NEW, OLD)
        self.fleet = Watched(_hosts(processes, self.old, back=action == "rollback"))
        self.fleet.dice = dice
        self.fleet.faults = list(faults)
        self.plan = self._plan(rules or {})
        self.fleet.strategy = self.plan.strategy
        self.archive = folder / "archive.tar.zst"
        self.archive.write_bytes(b"release")

    def _plan(self, rules: Mapping[str, Any]) -> Plan:
        statuses = {name: self.fleet._status(host, {}) for name, host in self.fleet.hosts.items()}
        if self.action == "rollback":
            return planner.rollback("jukebox", self.new, statuses)
        beat = ReleaseProcess(kind="singleton", hosts="beat", command=["x"], stop_timeout=5)
        processes = release().processes
        if any("beat" in host.processes for host in self.fleet.hosts.values()):
            processes = {**processes, "beat": beat}
        groups = {
            "streaming": [n for n, h in self.fleet.hosts.items() if "web" in h.processes],
            "worker": [
                n for n, h in self.fleet.hosts.items() if {"mail", "plays"} & {*h.processes}
            ],
            "beat": [n for n, h in self.fleet.hosts.items() if "beat" in h.processes],
        }
        rules = {"soak": "0", "warm": 0, "passes": 1, **rules}
        wanted = release().model_copy(update={"processes": processes})
        return planner.deploy(wanted, groups, statuses, strategy.read(rules))

    # The controllers.

    def first(self, cut: int = 0, asleep: Callable[[], None] | None = None) -> Ended:
        """The run itself."""
        port = self._controller(cut, asleep)
        fences = {name: host.fence for name, host in self.fleet.hosts.items()}
        who = Run(RUN, "jukebox", "ann@desk", "because")
        cargo = Cargo(self.plan, (), self.archive, {}) if self.action == "deploy" else None
        replace = self.action == "rollback"
        made = lambda report: Rollout(  # noqa: E731
            self.plan, port, who, self.fleet.clock, report,
            fences=fences, cargo=cargo, journal=port, replace=replace,
        )  # fmt: skip
        return self._end(port, made)

    def take_over(
        self, back: bool, cut: int = 0, asleep: Callable[[], None] | None = None
    ) -> Ended:
        """`fab deploy.resume`, or with `back` `fab deploy.abort`, as taking_over.py does it."""
        self.fleet.clock.now += TAKES_OVER
        port = self._controller(cut, asleep)
        return self._end(port, lambda report: self._taken(port, report, back))

    def _taken(self, port: Controller, report: Any, back: bool) -> Rollout:
        looks = preflight.look(port, self.fleet.hosts, "jukebox", self.fleet.clock)
        statuses = {h: k.status for h, k in looks.items() if not isinstance(k, HostError)}
        errors = {h: k for h, k in looks.items() if isinstance(k, HostError)}
        found = takeover.choose(statuses, "")
        if back:
            takeover.refuse_back(found, statuses)
        back = back or found.retreating
        cargo = Cargo(found.plan, (), self.archive, {})
        who = Run(found.run, "jukebox", "bob@desk", "because")
        return Rollout(
            found.plan, port, who, self.fleet.clock, report,
            fences=found.fences, cargo=None if back else cargo, journal=port, resumed=True,
            back=back, missing=takeover.missing(found, errors), given_up=found.left_out,
        )  # fmt: skip

    def _controller(self, cut: int, asleep: Callable[[], None] | None) -> Controller:
        return Controller(self.fleet, cut=cut, asleep=asleep, dice=self.dice)

    def _end(self, port: Controller, make: Callable[[Any], Rollout]) -> Ended:
        events: list[Event] = []
        try:
            make(events.append).carry_out()
        except Killed:
            return Ended(None, events=events)
        except BacklineError as error:
            said = f"{error.message} | {error.state} | {error.hint}"
            return Ended(int(error.exit_code), said, error.hosts, error.state, events)
        finally:
            self.calls = port.count
        return Ended(0, events=events)

    # What is true of the fleet.

    def unfinished(self) -> bool:
        """Some host knows a run that has not ended."""
        statuses = {name: self.fleet._status(host, {}) for name, host in self.fleet.hosts.items()}
        return bool(takeover.unfinished(statuses))

    def ended_well_somewhere(self) -> bool:
        """Abort is refused then."""
        return any((h.run or {}).get("ended") == "new" for h in self.fleet.hosts.values())

    def heal(self) -> None:
        """Every host answers again, and does as it is told."""
        self.fleet.faults.clear()
        self.fleet.dead.clear()

    def is_new(self, host: FakeHost) -> bool:
        """It serves the run's release alone: nothing else takes requests or jobs."""
        return all(
            host.live.get(p) == self.new
            and self.new in host.running.get(p, ())
            and (KINDS[p] == "http" or host.running[p] == {self.new})
            for p in host.processes
        )

    def is_old(self, host: FakeHost) -> bool:
        """It serves what it served before the run, and nothing of the run takes requests or jobs."""
        return all(self._is_old(host, process) for process in host.processes)

    def _is_old(self, host: FakeHost, process: str) -> bool:
        running = host.running.get(process, set())
        if self.old is None:
            return host.live.get(process) is None or self.new not in running
        serves = host.live.get(process) == self.old and self.old in running
        return serves and (KINDS[process] == "http" or running == {self.old})

    def check(self, end: Ended) -> None:
        """The exit code of a controller that was neither killed nor fenced tells the truth."""
        hosts = self.fleet.hosts
        new = {name for name, host in hosts.items() if self.is_new(host)}
        old = {name for name, host in hosts.items() if self.is_old(host)}
        confined = {name for name, host in hosts.items() if host.drained}
        if "no run is unfinished" in end.said:
            return  # those that know of one do not answer
        told = f"exit {end.code}: {end.said}; new {sorted(new)}, old {sorted(old)}"
        if end.code == 0 and any(e.text.startswith("rolled back") for e in end.events):
            assert old == set(hosts), told
        elif end.code == 0 or (end.code == 1 and "did not mark" in end.said):
            assert new | confined == set(hosts), told
        elif end.code == 3 and "lost its lease" in end.said:
            assert old != set(hosts) or self.old is None or "is not known" in end.said, told
        elif end.code == 3:
            rest = set(hosts) - set(end.hosts) - confined
            assert rest <= new or rest <= old, told
            assert rest != set(hosts), told
        elif end.code == 6 and "lost its lease" in end.said:  # an old pool may not have been let go
            assert len({r for host in hosts.values() for r in host.live.values()}) <= 1, told
        else:
            assert old == set(hosts), told


def _hosts(processes: Mapping[str, tuple[str, ...]], old: str | None, back: bool) -> list[FakeHost]:
    found = []
    for name, names in processes.items():
        host = FakeHost(name, tuple(names), fence=len(found))
        for staged in ((OLD, NEW) if back else (old,)) if old else ():
            host.staged[staged] = "good"
            host.tars.add(staged)
            host.good.append(staged)
        for process in names:
            host.running[process] = {old} if old else set()
            if old:
                host.live[process] = old
        found.append(host)
    return found
