"""The loop that rolls a plan out: everything staged first, then one host after the other.

A plain loop, until the engine with batches, soak and probe takes its place. What it promises: a host
is touched only after all those before it are healthy, and a run ends all-new, all-old, or says
exactly which hosts differ.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from backline.errors import BacklineError
from backline.rollout import endings
from backline.rollout.events import Event, Report
from backline.rollout.lease import FENCED, Lease, Run
from backline.rollout.plan import Plan, Step
from backline.rollout.reach import ANSWER_SECONDS, SLACK_SECONDS, Reach
from backline.rollout.retreat import retreat
from backline.transport.port import Clock, Fleet, HostError

SETTLE_SECONDS = 0.75
START_SECONDS = 60.0
CHECK_SECONDS = 60.0
RECHECK_SECONDS = 30.0
STAGE_SECONDS = 600.0
MIGRATE_SECONDS = 900.0
KEEP = 3
SLOWEST_BYTES = 256 * 1024
"""Bytes per second below which an upload counts as hung."""


class Rollout:
    """One run of a plan. `files` are what travels (none for a rollback)."""

    def __init__(
        self,
        plan: Plan,
        fleet: Fleet,
        run: Run,
        clock: Clock,
        report: Report,
        files: tuple[Path, ...] = (),
    ) -> None:
        self.plan = plan
        self.files = files
        self.report = report
        self.lease = Lease(fleet, plan.hosts, run, clock, report)
        self.reach = Reach(fleet, self.lease, clock, report)
        self.begun: list[Step] = []
        self.switched: list[Step] = []

    def run(self) -> None:
        """Carries the plan out; raises BacklineError, with the exit code of the design, otherwise."""
        with self.lease:
            try:
                self._refuse_a_changed_world()
                self._ship()
                self._stage()
                self._migrate()
                self._roll()
                self._finish()
            except KeyboardInterrupt:
                raise endings.interrupted(self.plan, self.switched) from None
            except HostError as error:
                raise self._failed(error) from error

    def _refuse_a_changed_world(self) -> None:
        """Between the plan and the lease somebody else may have finished a run."""
        answers = self.reach.everywhere(
            self.plan.hosts,
            lambda host: self.reach.ask(host, "status", {"app": self.plan.app}),
            ANSWER_SECONDS,
        )
        for step in self.plan.steps:
            live = (answers[step.host].value or {})["processes"][step.process]["live"]
            if live != step.live:
                raise endings.world_changed(step, live)

    def _ship(self) -> None:
        if not self.plan.ship_to or not self.files:
            return
        size = sum(file.stat().st_size for file in self.files)
        self.report(Event("begin", text="ship", data={"bytes": size}))
        self.reach.everywhere(
            self.plan.ship_to,
            lambda host: self.reach.fleet.ship(host, self.files, self._shipped),
            60.0 + size / SLOWEST_BYTES,
            "ship",
        )

    def _shipped(self, host: str, sent: int, total: int) -> None:
        self.report(Event("progress", host=host, data={"sent": sent, "total": total}))

    def _stage(self) -> None:
        """On all hosts, also where it is already: saying so again costs nothing."""
        if self.plan.action != "deploy":
            return
        self.report(Event("begin", text="stage"))
        fields = {"release": self.plan.release}
        try:
            self.reach.everywhere(
                self.plan.hosts,
                lambda host: self.reach.change(host, "stage", fields, STAGE_SECONDS),
                STAGE_SECONDS + SLACK_SECONDS,
                "stage",
            )
        except HostError:
            self._discard_uploads()
            raise

    def _discard_uploads(self) -> None:
        """What hosts refused must not lie in the way when the release is shipped again."""
        for host in self.plan.ship_to:
            with contextlib.suppress(HostError):
                self.reach.fleet.discard(host, [file.name for file in self.files])

    def _migrate(self) -> None:
        host = self.plan.migrate_on
        if host is not None:
            fields = {"release": self.plan.release, "phase": "expand", "deadline": MIGRATE_SECONDS}
            with self.reach.told("migrate", host):
                self.reach.change(host, "migrate", fields, MIGRATE_SECONDS)

    def _roll(self) -> None:
        """Takes the steps in turn. A rollback does not stop at one host: it saves the others."""
        failed: dict[str, HostError] = {}
        for step in self.plan.steps:
            if step.host in failed:
                continue
            try:
                self._turn(step)
            except HostError as error:
                if self.plan.action == "deploy" or error.code in FENCED:
                    raise
                failed[step.host] = error
                self.reach.warn(error)
        if failed:
            raise endings.rollback_incomplete(self.plan, list(failed.values()))

    def _turn(self, step: Step) -> None:
        release = self.plan.release
        self.begun.append(step)
        if step.kind == "singleton":  # never two of it, not even for a moment
            self._stop_others(step)
        self.reach.step(step, "start", release, START_SECONDS, deadline=START_SECONDS)
        self.reach.step(step, "check", release, CHECK_SECONDS, deadline=CHECK_SECONDS)
        if step.live != release:
            self.switched.append(step)
            self.reach.step(step, "switch", release, ANSWER_SECONDS)
            self.reach.clock.sleep(SETTLE_SECONDS)
            self.reach.step(
                step, "check", release, RECHECK_SECONDS, passes=1, deadline=RECHECK_SECONDS
            )
        if step.kind != "singleton":
            self._stop_others(step)

    def _stop_others(self, step: Step) -> None:
        """Lets the instances of other releases finish what they have, and end."""
        for release in step.others:
            patience = step.stop_timeout + SLACK_SECONDS
            force = {"force": True} if step.kind == "singleton" else {}
            self.reach.step(step, "stop", release, patience, deadline=patience, **force)

    def _finish(self) -> None:
        self._mark(self.plan.hosts, self.plan.release, "good")
        if self.plan.action == "rollback":
            for old in {step.live for step in self.plan.changes if step.live}:
                hosts = dict.fromkeys(step.host for step in self.plan.changes if step.live == old)
                with contextlib.suppress(BacklineError):
                    self._mark(tuple(hosts), old, "bad")
        pruned = self.reach.attempt(
            self.plan.hosts,
            lambda host: self.reach.change(host, "prune", {"keep": KEEP}, ANSWER_SECONDS * 2),
            ANSWER_SECONDS * 2 + SLACK_SECONDS,
        )
        for outcome in pruned.values():
            if outcome.error:
                self.reach.warn(outcome.error, "old releases stay: ")
        self.report(Event("done", release=self.plan.release, text=f"{len(self.plan.hosts)} hosts"))

    def _mark(self, hosts: tuple[str, ...], release: str, state: str) -> None:
        fields = {"release": release, "state": state}
        marked = self.reach.attempt(
            hosts,
            lambda host: self.reach.change(host, "mark", fields, ANSWER_SECONDS),
            ANSWER_SECONDS + SLACK_SECONDS,
        )
        errors = [outcome.error for outcome in marked.values() if outcome.error]
        if errors:
            raise endings.not_marked(self.plan, errors)

    def _failed(self, error: HostError) -> BacklineError:
        """How a run ends that met an error it cannot pass: untouched, fenced, or after a retreat."""
        if error.code in FENCED:
            return endings.fenced(self.plan, self.switched, error)
        if not self.begun:
            return endings.untouched(self.plan, error)
        self.reach.warn(error)
        try:
            stuck = retreat(self.plan, self.begun, self.switched, self.reach)
        except KeyboardInterrupt:
            return endings.interrupted(self.plan, self.switched)
        if error.code in ("unhealthy", "start_failed"):
            with contextlib.suppress(BacklineError):
                self._mark(self.plan.hosts, self.plan.release, "bad")
        return endings.rolled_back(self.plan, error, stuck)
