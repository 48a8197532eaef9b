"""Draining and undraining, under the app's lease: each host on its own, the balancers watched."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.operations.drain import judge
from backline.operations.drain.judge import Plan
from backline.operations.drain.look import SERVES, Process
from backline.rollout.crew import Crew, Job, Pause
from backline.rollout.events import Event, Report
from backline.rollout.lease import Lease, Run
from backline.rollout.reach import Reach
from backline.transport.port import Answer, Clock, Fleet, HostError, Unreachable

LOOK_EVERY = 0.5
CHECK = {"passes": 3, "interval": 1.0}
START_SECONDS = 60.0
LONGEST = 3600.0


class Drain:
    """One drain or undrain. `timeout`: seconds for it all; what was begun by then stays begun."""

    def __init__(
        self, fleet: Fleet, plan: Plan, run: Run, clock: Clock, report: Report, timeout: float
    ) -> None:
        self.plan = plan
        self.clock = clock
        self.report = report
        self.end = clock.monotonic() + timeout
        self.timeout = timeout
        self.crew = Crew(fleet.hands(), clock)
        self.statuses: dict[str, Answer] = {}
        self.lease = Lease(fleet, run, report, seen=self.statuses.__setitem__)
        self.reach = Reach(fleet, self.lease, clock, report)
        self.flags: dict[str, str] = {}

    @property
    def so_far(self) -> str:
        """What an interrupted one leaves."""
        done = [f"{host} is {state}" for host, state in self.flags.items()]
        return "; ".join(done) or "no flag has changed; pools that were told to stop do so"

    def out(self, serving: Collection[str], outage: bool) -> None:
        """Takes the hosts out of service. Raises BacklineError; see `drain` and `guard`."""
        with self._leased():
            if not outage:  # with the lease nobody else takes hosts out: look once more
                judge.guard(self._balancers(), self.plan.hosts, serving, self.statuses)
            if self.plan.flag:
                flags = {host: self._flag(host) for host in self.plan.hosts}
                self._all(flags, "not all of them are drained")
            jobs: dict[str, Job] = {
                balancer: self._watch(balancer, out=True) for balancer in self.plan.balancers
            }
            pools = [process for process in self.plan.processes if process.kind != "http"]
            jobs |= {f"{pool.host} {pool.name}": self._finish(pool) for pool in pools}
            drained = "they are drained, which stays so"
            self._all(jobs, drained if self.plan.flag else "pools that were told to stop do so")

    def back(self) -> None:
        """Brings the hosts back: first healthy, then in the balancers. Raises BacklineError."""
        with self._leased():
            self._all(
                {host: self._return(host) for host in self.plan.hosts},
                "what does not run or is ill is left so",
            )
            jobs = {balancer: self._watch(balancer, out=False) for balancer in self.plan.balancers}
            self._all(jobs, "they are healthy and no longer drained")

    @contextmanager
    def _leased(self) -> Iterator[None]:
        try:
            for error in self.lease.take(self.crew, self.plan.fences).values():
                if error.host in self.plan.hosts:
                    raise _failed([error], "nothing was changed")
            for host in self.plan.fences:
                self.crew.background(f"lease of {host}", self.lease.keep(host))
            yield
        finally:
            self.crew.stop()
            self.lease.give_back(self.crew, None)

    def _balancers(self) -> dict[str, Any]:
        show = {"action": "show"}
        jobs = {b: self.reach.only(self.reach.ask(b, "balance", show)) for b in self.plan.balancers}
        outcomes = self.crew.run(jobs)
        errors = [outcome.error for outcome in outcomes.values() if outcome.error]
        if errors:
            raise _failed(errors, "nothing was changed")
        answers = {host: outcome.value or {} for host, outcome in outcomes.items()}
        return {host: answer.get("servers", {}) for host, answer in answers.items()}

    def _flag(self, host: str) -> Job:
        fields = {"action": "on", "persist": True}
        yield from self.reach.told(self.reach.change(host, "drain", fields), "drain")
        self.flags[host] = "drained"

    def _finish(self, pool: Process) -> Job:
        """A pool takes nothing new, ends the jobs it has, and stops. Where it waits too long it goes on."""
        left = self._left()
        fields: dict[str, Any] = {"process": pool.name, "release": pool.live, "force": True}
        fields["deadline"] = left
        ask = self.reach.change(pool.host, "stop", fields, left, idle=True)
        yield from self.reach.told(ask, "stop", pool.name, pool.live)

    def _return(self, host: str) -> Job:
        """Everything that is live here runs and is healthy, then the flag comes down."""
        for process in self.plan.of(host):
            what = {"process": process.name, "release": process.live}
            begin = {**what, "deadline": START_SECONDS}
            ask = self.reach.change(host, "start", begin, START_SECONDS)
            yield from self.reach.told(ask, "start", process.name, process.live)
            seen = {**what, **CHECK, "app": self.plan.app, "deadline": START_SECONDS}
            look = self.reach.ask(host, "check", seen, START_SECONDS)
            yield from self.reach.told(look, "check", process.name, process.live)
        if self.plan.flag:
            down = self.reach.change(host, "drain", {"action": "off"})
            yield from self.reach.told(down, "undrain")
            self.flags[host] = "no longer drained"

    def _watch(self, balancer: str, out: bool) -> Job:
        """Until the balancer does with all hosts as it should. One that does not know a host is content."""
        doing = "sends nothing new to" if out else "sends requests to"
        self.report(Event("begin", balancer, text=f"until it {doing} {', '.join(self.plan.hosts)}"))
        while True:
            try:
                answer: Answer = yield self.reach.ask(balancer, "balance", {"action": "show"})
                left = waiting(answer["servers"], self.plan.hosts, out)
                trouble = ", ".join(f"{name} is {state}" for name, state in left.items())
            except Unreachable as error:  # it may come back, and is asked until then
                left, trouble = {balancer: ""}, error.message
            if not left:
                text = f"{doing} {', '.join(self.plan.hosts)}"
                self.report(Event("balance", balancer, text=text))
                return
            if self.clock.monotonic() >= self.end:
                said = f"after {self.timeout:.0f} s: {trouble}"
                raise HostError(balancer, said, code="deadline")
            yield Pause(LOOK_EVERY)

    def _left(self) -> float:
        return min(LONGEST, max(1.0, self.end - self.clock.monotonic()))

    def _all(self, jobs: Mapping[str, Job], state: str) -> None:
        outcomes = self.crew.run(jobs)
        errors = [outcome.error for outcome in outcomes.values() if outcome.error is not None]
        if errors:
            raise _failed(errors, state)


def waiting(
    servers: Mapping[str, Mapping[str, str]], hosts: Collection[str], out: bool
) -> dict[str, str]:
    """The hosts that a balancer does not treat as wanted yet, with their states there."""
    return {
        name: state
        for backend in servers.values()
        for name, state in backend.items()
        if name in hosts and (state in SERVES) == out
    }


def _failed(errors: list[HostError], state: str) -> BacklineError:
    return BacklineError(
        wording.said(errors),
        hosts=[error.host for error in errors],
        state=state,
        hint=errors[0].hint or "the same command again goes on; fab status shows the hosts",
        exit_code=errors[0].ends_with,
    )
