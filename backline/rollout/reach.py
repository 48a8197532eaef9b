"""How a run talks to its hosts: every change under the lease, timed and told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from backline.rollout.events import Event, Report
from backline.rollout.lease import Lease
from backline.rollout.plan import Step
from backline.transport.port import Answer, Clock, Fleet, HostError, Outcome, T

ANSWER_SECONDS = 25.0
SLACK_SECONDS = 15.0
"""How much longer than hostctl's own deadline we wait for its answer."""


class Reach:
    """The hosts of one run."""

    def __init__(self, fleet: Fleet, lease: Lease, clock: Clock, report: Report) -> None:
        self.fleet = fleet
        self.lease = lease
        self.clock = clock
        self.report = report

    def ask(self, host: str, verb: str, fields: Mapping[str, Any]) -> Answer:
        """A verb that changes nothing."""
        return self.fleet.call(host, verb, fields, deadline=ANSWER_SECONDS)

    def change(self, host: str, verb: str, fields: Mapping[str, Any], seconds: float) -> Answer:
        """A changing verb; not even asked for once we know that our lease there is lost."""
        if host in self.lease.lost:
            raise self.lease.lost[host]
        fields = {**self.lease.fields(), **fields}
        return self.fleet.call(host, verb, fields, deadline=seconds + SLACK_SECONDS)

    def step(self, step: Step, verb: str, release: str, seconds: float, **fields: Any) -> Answer:
        """A verb on one process of one host, told when it begins and when it is done."""
        what = {"release": release, "process": step.process, **fields}
        with self.told(verb, step.host, step.process, release):
            return self.change(step.host, verb, what, seconds)

    def everywhere(
        self, hosts: Iterable[str], work: Callable[[str], T], seconds: float, tell: str = ""
    ) -> dict[str, Outcome[T]]:
        """Works on all hosts at once and raises the first error when every host has ended."""
        outcomes = self.attempt(hosts, work, seconds, tell)
        errors = [outcome.error for outcome in outcomes.values() if outcome.error]
        for error in errors[1:]:
            self.warn(error)
        if errors:
            raise errors[0]
        return outcomes

    def attempt(
        self, hosts: Iterable[str], work: Callable[[str], T], seconds: float, tell: str = ""
    ) -> dict[str, Outcome[T]]:
        """Works on all hosts at once; errors are in the outcomes."""
        began = self.clock.monotonic()

        def done(host: str, outcome: Outcome[T]) -> None:
            if tell and outcome.error is None:
                took = self.clock.monotonic() - began
                self.report(Event(tell, host=host, seconds=took))

        return self.fleet.each(hosts, work, deadline=seconds, done=done)

    def warn(self, error: HostError, before: str = "") -> None:
        """Tells of an error that does not decide how the run ends."""
        self.report(Event("warning", host=error.host, text=before + error.message))

    @contextlib.contextmanager
    def told(
        self, kind: str, host: str, process: str | None = None, release: str | None = None
    ) -> Iterator[None]:
        """Tells that something begins, and, unless it fails, that it is done and how long it took."""
        began = self.clock.monotonic()
        self.report(Event("begin", host, process, release, text=kind))
        yield
        took = self.clock.monotonic() - began
        self.report(Event(kind, host, process, release, seconds=took))
