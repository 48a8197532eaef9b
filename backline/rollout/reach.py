"""How a run talks to its hosts: every change under the lease, and told when it begins and ends."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from backline.rollout.crew import Ask, Job, Pause, Wish
from backline.rollout.events import Event, Report
from backline.rollout.lease import Lease
from backline.transport.port import Answer, Clock, Fleet, HostError

ANSWER_SECONDS = 10.0
BUSY_EVERY = 2.0
KEPT = ("already", "switched_at", "started")
"""What an event keeps of a host's answer."""
SLACK_SECONDS = 15.0
"""How much longer than hostctl's own deadline we wait for its answer."""


class Reach:
    """The hosts of one run."""

    def __init__(self, fleet: Fleet, lease: Lease, clock: Clock, report: Report) -> None:
        self.fleet = fleet
        self.lease = lease
        self.clock = clock
        self.report = report

    def ask(
        self, host: str, verb: str, fields: Mapping[str, Any], seconds: float = ANSWER_SECONDS
    ) -> Ask:
        """A verb that changes nothing; `seconds`: how long it may take over there."""
        deadline = seconds + SLACK_SECONDS
        return Ask(
            host,
            lambda: self.fleet.call(host, verb, fields, deadline=deadline),
            deadline,
            idle=True,
        )

    def change(
        self,
        host: str,
        verb: str,
        fields: Mapping[str, Any],
        seconds: float = ANSWER_SECONDS,
        idle: bool = False,
    ) -> Ask:
        """A changing verb; not even asked for once we know that our lease there is lost."""
        deadline = seconds + SLACK_SECONDS

        def work() -> Answer:
            if host in self.lease.lost:
                raise self.lease.lost[host]
            whole = {**self.lease.fields(), **fields}
            return self.fleet.call(host, verb, whole, deadline=deadline)

        return Ask(host, work, deadline, idle)

    def told(
        self,
        ask: Ask,
        kind: str,
        process: str | None = None,
        release: str | None = None,
        **data: Any,
    ) -> Generator[Wish, Any, Answer]:
        """Asks, and tells when it begins, and how it ended."""
        began = self.clock.monotonic()
        self.report(Event("begin", ask.host, process, release, text=kind, data=data))
        try:
            answer: Answer = yield ask
        except HostError as error:
            took = self.clock.monotonic() - began
            said = {"error": error.code, **data}
            self.report(
                Event("failed", ask.host, process, release, f"{kind}: {error.message}", took, said)
            )
            raise
        took = self.clock.monotonic() - began
        kept = {key: answer[key] for key in KEPT if answer.get(key)}
        self.report(Event(kind, ask.host, process, release, seconds=took, data={**data, **kept}))
        return answer

    def patient(self, ask: Ask, kind: str, release: str | None = None) -> Job:
        """`told`, for verbs that one hostctl at a time may do: waits for one that is at it already,
        such as that of a controller which is gone."""
        end = self.clock.monotonic() + ask.deadline
        while True:
            try:
                return (yield from self.told(ask, kind, release=release))
            except HostError as error:
                if error.code != "busy" or self.clock.monotonic() >= end:
                    raise
            yield Pause(BUSY_EVERY)

    def only(self, ask: Ask) -> Job:
        """A job that asks one thing and returns the answer."""
        return (yield ask)

    def warn(self, error: HostError, before: str = "") -> None:
        """Tells of an error that does not decide how the run ends."""
        self.report(Event("warning", host=error.host, text=before + error.message))
