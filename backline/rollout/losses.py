"""Hosts that fail during a run: counted against the budget, taken back, left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from backline.rollout.crew import Crew, Job
from backline.rollout.lease import FENCED
from backline.rollout.plan import Plan, Step, serving
from backline.rollout.turns import Turns
from backline.transport.port import HostError, Outcome

RETREAT, LEFT_OUT = "retreat", "left_out"
"""Notes on the hosts: the whole run goes back; this host alone was brought back."""
STRANGER = "stranger"
"""The code of a host that a run never reached: it has nothing to take back there."""


class Beyond(Exception):
    """More hosts failed than may fail."""

    def __init__(self, error: HostError) -> None:
        super().__init__(str(error))
        self.error = error


class Losses:
    """What a run has lost so far. `out`: the hosts that are left out, and why; `missing`: those that
    did not answer in the preflight. `resumed`, `back`: see Rollout."""

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        turns: Turns,
        *,
        resumed: bool,
        back: bool,
        missing: Mapping[str, HostError],
        given_up: Iterable[str],
    ) -> None:
        self.plan, self.crew, self.turns = plan, crew, turns
        self.world, self.reach = turns.world, turns.reach
        self.resumed, self.back = resumed, back
        self.missing = dict(missing)
        self.out: dict[str, HostError] = {
            host: HostError(host, "left out before", code=LEFT_OUT) for host in given_up
        }

    def each(self, job: Callable[[str], Job], hosts: Iterable[str]) -> None:
        """Runs a job for each host; those that fail within the budget go back and are left out."""
        self.run({host: job(host) for host in hosts})

    def run(self, jobs: Mapping[str, Job], until: Callable[[], bool] = lambda: False) -> None:
        """Runs jobs, each named by its host and perhaps more words; as `each`."""
        failed: list[HostError] = []

        def done(name: str, outcome: Outcome[Any]) -> None:
            if outcome.error is not None:
                self.left_behind(name.split()[0], outcome.error)
                failed.append(outcome.error)

        self.crew.run(jobs, done, until)
        hosts = dict.fromkeys(error.host for error in failed)
        ours = set(self.hosts_begun())
        begun = [host for host in hosts if host in ours]
        if begun and self.plan.action == "deploy":
            for error in self.take_back(begun, {"event": LEFT_OUT}).values():
                self.reach.warn(error, "not brought back: ")

    def left_behind(self, host: str, error: HostError) -> None:
        """Counts a failed host. Raises when it is one too many, and at once when we are fenced out."""
        if error.code in FENCED:
            raise error
        if host in self.out:
            return
        self.out[host] = error
        if self.plan.action == "rollback":  # it saves the other hosts
            self.reach.warn(error)
            return
        allowed = self.plan.strategy.allowed_failures(len(self.plan.hosts))
        if self.back:
            self.reach.warn(error)
        elif len(self.out) > allowed or not self.here() or serving(self.plan, list(self.out)):
            raise Beyond(error)
        else:
            self.reach.warn(error, "left out: ")

    def take_back(self, hosts: Iterable[str], note: Mapping[str, Any]) -> dict[str, HostError]:
        """Brings hosts back, all at once; returns those that could not be brought back, and why.

        Raises HostError when we are fenced out.
        """
        outcomes = self.crew.run({host: self.turns.back(host, note) for host in hosts})
        errors = {host: outcome.error for host, outcome in outcomes.items() if outcome.error}
        for error in errors.values():
            if error.code in FENCED:
                raise error
        stuck = {host: error for host, error in errors.items() if self.may_be_new(host)}
        for host in errors.keys() - stuck.keys():
            self.reach.warn(errors[host], "not tidied up, but it was not switched: ")
        return stuck

    def may_be_new(self, host: str) -> bool:
        """False for a host that surely serves what it served before."""
        return self.resumed or any(
            # Pools take jobs as soon as they are started.
            step in self.turns.switched or (step.kind != "http" and step in self.turns.begun)
            for step in self.plan.by_host[host]
        )

    def here(self) -> list[str]:
        """The hosts of the run that are still in it."""
        return [host for host in self.plan.hosts if host not in self.out]

    def began(self) -> bool:
        """Whether any process was touched by us."""
        return bool(self.turns.begun)

    def hosts_begun(self) -> list[str]:
        """The hosts on which one was."""
        return list(dict.fromkeys(step.host for step in self.turns.begun))

    def switched(self) -> list[Step]:
        """By us, or by whoever had this run before us."""
        return [
            step
            for step in self.plan.steps
            if step in self.turns.switched
            or (self.world.live(step) == self.plan.release != step.live)
        ]

    def unsure(self) -> list[str]:
        """Hosts that were asked to switch, and of which we do not know whether they did."""
        release = self.plan.release
        found = [step.host for step in self.turns.switched if self.world.live(step) != release]
        return list(dict.fromkeys(found))

    def is_new(self, host: str) -> bool:
        """Whether any process of the host is live in the plan's release, as far as we know."""
        return any(self.world.live(s) == self.plan.release for s in self.plan.by_host[host])
