"""What one host does in a run: forward to the plan's release, or back to what it had.

Both begin with what the host says of itself, and do what is missing: so either can be cut anywhere
and be said again by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backline.rollout.crew import Job, Pause, Settled
from backline.rollout.events import Event
from backline.rollout.lease import FENCED
from backline.rollout.plan import STOPPED, Plan, Step
from backline.rollout.reach import ANSWER_SECONDS, Reach
from backline.transport.port import Answer, HostError, Unreachable

WATCH_SECONDS = 1.0
BACK_SECONDS = 90.0
BACK_PATIENCE = 45.0
BACK_EVERY = 3.0


class World:
    """What runs where, as the hosts said it last: {host: hostctl's status}."""

    def __init__(self) -> None:
        self.statuses: dict[str, Answer] = {}

    def live(self, step: Step) -> str | None:
        """The live release of a step's process, as far as it is known."""
        status = self.statuses.get(step.host)
        if status is None:
            return step.live
        found: str | None = status["processes"][step.process]["live"]
        return found

    def went_live(self, step: Step, release: str | None) -> None:
        """Notes a switch."""
        if step.host in self.statuses:
            self.statuses[step.host]["processes"][step.process]["live"] = release

    def running(self, step: Step) -> dict[str, str]:
        """The instances of a step's process that are up or on their way: {release: state}."""
        status = self.statuses.get(step.host)
        instances = status["processes"][step.process]["instances"] if status else []
        return {
            entry["release"]: entry["active"]
            for entry in instances
            if entry["active"] not in STOPPED
        }


class Turns:
    """The jobs of single hosts. `switched` are the steps whose switch was asked for here."""

    def __init__(self, plan: Plan, reach: Reach, world: World) -> None:
        self.plan = plan
        self.reach = reach
        self.world = world
        self.begun: dict[Step, None] = {}
        self.switched: dict[Step, None] = {}

    def in_place(self, host: str) -> bool:
        """True when nothing is left to do on this host."""
        release = self.plan.release
        for step in self.plan.by_host[host]:
            if step.ends:
                if self.world.running(step):
                    return False
            elif self.world.live(step) != release or self.world.running(step).get(release) is None:
                return False
        return True

    def look(self, host: str) -> Job:
        """Asks what the host has; returns its status and keeps it."""
        answer: Answer = yield self.reach.ask(host, "status", {"app": self.plan.app})
        self.world.statuses[host] = answer
        return answer

    def forward(self, host: str) -> Job:
        """Each process in turn: start, check, switch, watch, let the old one go."""
        for step in self.plan.by_host[host]:
            yield from self._forward(step)

    def _forward(self, step: Step) -> Job:
        release, rules = self.plan.release, self.plan.strategy
        others = {entry for entry in self.world.running(step) if entry != release}
        self.begun[step] = None
        if step.ends:
            yield from self._stop_all(step, others | ({release} & {*self.world.running(step)}))
            return
        if self.plan.action == "rollback" and step.kind != "singleton":
            yield from self._return_to(step, release)
        elif self.world.live(step) != release:
            if step.kind == "singleton":  # never two of it, not even for a moment
                yield from self._stop_all(step, others)
            yield from self._verb(step, "start", rules.deadline, deadline=rules.deadline)
            checks = {"passes": rules.passes, "deadline": rules.deadline, **_gently(step)}
            yield from self._verb(step, "check", rules.deadline, **checks)
            yield from self._switching(step, self._verb(step, "switch", 10.0))
            self.world.went_live(step, release)
            yield from self.watch(step, WATCH_SECONDS)
        elif self.world.running(step).get(release) is None:  # live, and it does not run
            yield from self._verb(step, "start", rules.deadline, deadline=rules.deadline)
        if step.kind != "singleton":
            yield from self._let_go(step, others)

    def tidy(self, host: str) -> Job:
        """Lets go what a controller that is gone replaced, and had no time to let go."""
        for step in self.plan.by_host[host]:
            running = self.world.running(step)
            there = self.world.live(step) == self.plan.release and self.plan.release in running
            if there and step.kind != "singleton":
                yield from self._let_go(step, {*running} - {self.plan.release})

    def _return_to(self, step: Step, release: str) -> Job:
        """hostctl's own way back: start it if it is not warm, check, switch."""
        if self.world.live(step) == release and release in self.world.running(step):
            return
        fields: dict[str, Any] = {"process": step.process, "to": release, "passes": 1}
        if self.plan.action == "deploy":  # what was there before goes back whatever was said of it
            fields["force"] = True
        ask = self.reach.change(step.host, "rollback", fields, BACK_SECONDS)
        yield from self._switching(step, self.reach.told(ask, "rollback", step.process, release))
        self.world.went_live(step, release)

    def _switching(self, step: Step, job: Job) -> Job:
        """From when a switch is asked for, it may be done; not if we were refused as fenced out."""
        before = step in self.switched
        self.switched[step] = None
        try:
            yield from job
        except HostError as error:
            if error.code in FENCED and not before:
                del self.switched[step]
            raise

    def watch(self, step: Step, seconds: float) -> Job:
        """Fails at the first bad sample, or when the process was restarted."""
        fields = {"process": step.process, "release": self.plan.release, "app": self.plan.app}
        # A pool's check is a program of its own: often enough, and no burden.
        often = {"for": seconds, "interval": 1.0 if step.kind == "http" else 5.0}
        try:
            yield self.reach.ask(step.host, "check", {**fields, **often}, seconds + 10.0)
        except HostError as error:
            data = {"error": error.code}
            text = f"watch: {error.message}"
            self.reach.report(
                Event("failed", step.host, step.process, self.plan.release, text, data=data)
            )
            raise

    def _let_go(self, step: Step, others: set[str]) -> Job:
        """Web processes stay warm for a while, the last one at least; pools finish what they have."""
        for release in sorted(others):
            warm = self.plan.strategy.warm if self.plan.action == "deploy" else 0
            if step.kind == "http" and release == step.live and warm:
                fields: dict[str, Any] = {"after": warm}
            else:
                fields = {"wait": False}
            yield from self._stop(step, release, ANSWER_SECONDS, **fields)

    def _stop_all(self, step: Step, releases: set[str]) -> Job:
        for release in sorted(releases):
            patience = step.stop_timeout + 15.0
            yield from self._stop(step, release, patience, deadline=patience, force=True)

    def _stop(self, step: Step, release: str, seconds: float, **fields: Any) -> Job:
        what = {"process": step.process, "release": release, **fields}
        ask = self.reach.change(step.host, "stop", what, seconds)
        yield from self.reach.told(ask, "stop", step.process, release, **_how(fields))

    def _verb(self, step: Step, verb: str, seconds: float, **fields: Any) -> Job:
        what = {"process": step.process, "release": self.plan.release, **fields}
        if verb == "check":
            ask = self.reach.ask(step.host, verb, {"app": self.plan.app, **what}, seconds)
        else:
            # A start may take long, over there: who goes back does not wait for it, but stops it.
            # A pool that is started late would take jobs after we said that all is as before.
            idle = verb == "start" and step.kind == "http"
            ask = self.reach.change(step.host, verb, what, seconds, idle)
        yield from self.reach.told(ask, verb, step.process, self.plan.release)

    def back(self, host: str, note: Mapping[str, Any]) -> Job:
        """Brings a host back to what it had before the run; tries again while it is unreachable.

        `note` is kept on the host first: whoever takes over from us goes on in the same direction.
        """
        yield Settled(host)
        end = self.reach.clock.monotonic() + BACK_PATIENCE
        while True:
            try:
                yield from self.reach.lease.again(host)
                yield from self.look(host)
                if note["event"] not in notes(self.world.statuses[host]):
                    yield self.reach.change(host, "note", {"note": dict(note)})
                for step in reversed(self.plan.by_host[host]):
                    yield from self._back(step)
                return
            except Unreachable as error:
                if self.reach.clock.monotonic() >= end:
                    raise
                self.reach.report(Event("warning", host, text=f"{error.message}; trying again"))
                yield Pause(BACK_EVERY)

    def _back(self, step: Step) -> Job:
        release, before = self.plan.release, step.live
        if before == release:  # it was there before us: this run has nothing to take back
            return
        running = self.world.running(step)
        if step.kind == "singleton" and release in running:
            yield from self._stop_all(step, {release})
        if before is not None and (self.world.live(step) != before or before not in running):
            yield from self._return_to(step, before)
        if before is None and self.world.live(step) == release:
            yield from self._stop_all(step, {release})
        elif release in running and step.kind != "singleton":
            yield from self._stop(step, release, ANSWER_SECONDS, wait=False)
        self.switched.pop(step, None)


def notes(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What runs noted on a host that the host has not yet been told the end of: {event: note}."""
    kept = (status.get("run") or {}).get("notes") or ()
    return {str(note.get("event")): note for note in kept}


def _gently(step: Step) -> dict[str, float]:
    """A pool's check is a program of its own, and starting it costs more than an answer on a socket."""
    return {} if step.kind == "http" else {"interval": 1.0}


def _how(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: fields[key] for key in ("after", "wait") if key in fields}
