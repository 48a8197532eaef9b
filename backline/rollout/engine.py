"""A run: lease, stage everywhere, migrate once, batch by batch, then good - or back.

It ends all-new, all-old, or names the hosts that differ. Whatever is done is written down before
it leaves (the journal) and on the hosts themselves, so that a run cut anywhere can be resumed or
taken back by anybody, from any machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from backline import wording
from backline.errors import BacklineError
from backline.rollout import endings, quarantine
from backline.rollout.cargo import Cargo
from backline.rollout.crew import Crew
from backline.rollout.events import Event, Report
from backline.rollout.hooking import Hooking, Hooks
from backline.rollout.lease import FENCED, Lease, Run
from backline.rollout.losses import LEFT_OUT, RETREAT, STRANGER, Beyond, Losses
from backline.rollout.plan import Plan
from backline.rollout.quarantine import Quarantine
from backline.rollout.reach import Reach
from backline.rollout.turns import Turns, World
from backline.rollout.watch import PATIENCE, Abort, Reason, Watch
from backline.transport.port import Clock, Fleet, HostError, Probe

MIGRATE_SECONDS = 900.0
MORE_SECONDS = 60.0
KEEP = 3


class Journal(Protocol):
    """Where events are kept before what they tell of happens."""

    @property
    def head(self) -> Mapping[str, Any] | None:
        """The end of its chain."""

    def flush(self) -> None:
        """Makes durable what was told so far."""


class NoJournal:
    """For tests, and for runs that nobody needs to take over."""

    head = None

    def flush(self) -> None:
        """Nothing."""


class _Over(Exception):
    """The run has ended in another way than all-new."""

    def __init__(self, error: BacklineError, ended: str | None) -> None:
        super().__init__(str(error))
        self.error, self.ended = error, ended


class Rollout:
    """One run of a plan.

    `cargo`: what travels (None for a rollback). `fences`: each host's highest token, from the
    preflight. `resumed`: the run is taken over from a controller that is gone: hosts may have moved
    since the plan was made. `back`: it is taken over in order to be taken back, which is a success
    where it was `asked_back`. `missing`: hosts that belong to the run and did not answer in the
    preflight, or know nothing of it. `given_up`: hosts that the run has left out. `balancers`: the
    hosts that can keep others from listeners.
    """

    def __init__(
        self,
        plan: Plan,
        fleet: Fleet,
        run: Run,
        clock: Clock,
        report: Report,
        *,
        fences: Mapping[str, int],
        cargo: Cargo | None = None,
        journal: Journal | None = None,
        probe: Probe | None = None,
        hooks: Hooks | None = None,
        resumed: bool = False,
        back: bool = False,
        asked_back: bool = False,
        replace: bool = False,
        missing: Mapping[str, HostError] | None = None,
        given_up: Iterable[str] = (),
        balancers: Iterable[str] = (),
    ) -> None:
        journal = journal or NoJournal()
        self.plan, self.run, self.clock, self.report = plan, run, clock, report
        self.fences, self.cargo = dict(fences), cargo
        self.resumed, self.back, self.asked_back = resumed, back, asked_back
        self.crew = Crew(fleet.hands(), clock, before_asking=journal.flush)
        parts = {} if resumed else {host: plan.part(host) for host in plan.hosts}
        self.world = World()
        self.watch = Watch(plan, probe, clock, report)
        self.lease = Lease(
            fleet,
            run,
            report,
            parts=parts,
            replace=replace,
            head=lambda: journal.head,
            heard=self.watch.heard,
            silent=lambda error: self.crew.give_up(error.host, error),
            seen=self.world.statuses.__setitem__,
        )
        self.reach = Reach(fleet, self.lease, clock, report)
        self.turns = Turns(plan, self.reach, self.world)
        self.quarantine = Quarantine(plan, self.reach, self.crew, tuple(balancers))
        self.losses = Losses(
            plan,
            self.crew,
            self.turns,
            resumed=resumed,
            back=back,
            missing=missing or {},
            given_up=given_up,
        )
        self.hook = Hooking(hooks, plan, run.id, self.crew, self.reach)

    def carry_out(self) -> None:
        """Carries the plan out; raises BacklineError, with the exit code of the design, otherwise."""
        ended: str | None = None
        try:
            self._forward()
            ended = "new"
        except _Over as over:
            ended = over.ended
            if not (self.asked_back and ended == "old"):
                raise over.error from over.__cause__
            self.report(Event("done", text=over.error.state))
        finally:
            self.crew.stop()
            with contextlib.suppress(KeyboardInterrupt):
                self.lease.give_back(self.crew, ended)

    # The run, in prose.

    def _forward(self) -> None:
        """All of it. Raises _Over when it ends in another way."""
        try:
            self._take_lease()
            self._look()
            self._stage()
            self._migrate()
            for number in range(len(self.plan.batches)):
                self._batch(number)
            self._finish()
        except KeyboardInterrupt:
            raise self._interrupted() from None
        except Beyond as beyond:
            raise self._failed(beyond.error) from beyond.error
        except Reason as reason:
            raise self._failed(reason.as_error()) from None
        except HostError as error:
            raise self._failed(error) from error

    def _take_lease(self) -> None:
        if self.back:  # whoever failed before is asked to go back all the same
            self.losses.out = {}
        # Also of hosts that were left out before: they may have to be taken back, or confined; and
        # of those that the run never reached: our predecessor, if it only sleeps, must not either.
        errors = self.lease.take(self.crew, self.fences)
        for host in self.fences:
            self.crew.background(f"lease of {host}", self.lease.keep(host))
        for host, error in {**self.losses.missing, **errors}.items():
            self.losses.left_behind(host, error)

    def _look(self) -> None:
        """What runs where. A fresh run refuses a world that is not the plan's any more."""
        unseen = [host for host in self.losses.here() if host not in self.world.statuses]
        self.losses.each(self.turns.look, unseen)
        if self.resumed:
            self._look_back()
            return
        for host in self.losses.here():
            for step in self.plan.by_host[host]:
                live = self.world.live(step)
                if live != step.live:
                    raise _Over(endings.world_changed(step, live), "old")

    def _look_back(self) -> None:
        """What the controller before us left undone; goes back if it had hardly begun."""
        cut_early = any(error.code == STRANGER for error in self.losses.missing.values())
        if self.back or (
            cut_early and not any(self.losses.is_new(host) for host in self.losses.here())
        ):
            raise Abort(
                "taken back by the operator" if self.back else "it had not begun everywhere"
            )
        given_up = [
            h for h, e in self.losses.out.items() if e.code == LEFT_OUT and h in self.plan.by_host
        ]
        for error in self.losses.take_back(given_up, {"event": LEFT_OUT}).values():
            self.reach.warn(error, "not brought back: ")
        self.losses.each(self.turns.tidy, self.losses.here())

    def _stage(self) -> None:
        """Everywhere at once, before anything is switched; where it is already, that costs nothing."""
        if self.plan.action != "deploy" or self.cargo is None:
            return
        self.hook("before-stage")
        self._phase("stage", self.losses.here())
        cargo = self.cargo
        self.losses.each(
            lambda host: cargo.bring(host, self.reach, self._has(host)), self.losses.here()
        )
        self.hook("after-stage")

    def _has(self, host: str) -> bool:
        status = self.world.statuses.get(host) or {}
        return any(entry["id"] == self.plan.release for entry in status.get("releases", ()))

    def _migrate(self) -> None:
        """Once in the fleet, on the first host of the run that is still there."""
        if self.plan.migrate_on is None:
            return
        if any(self._migrated(host) or self.losses.is_new(host) for host in self.plan.hosts):
            return
        self.hook("before-migrate")
        host = (
            self.plan.migrate_on
            if self.plan.migrate_on in self.losses.here()
            else self.losses.here()[0]
        )
        fields = {"release": self.plan.release, "phase": "expand", "deadline": MIGRATE_SECONDS}
        ask = self.reach.change(host, "migrate", fields, MIGRATE_SECONDS)
        job = self.reach.patient(ask, "migrate", release=self.plan.release)
        outcome = self.crew.run({host: job})[host]
        if outcome.error:
            raise outcome.error
        self.hook("after-migrate")

    def _migrated(self, host: str) -> bool:
        releases = self.world.statuses.get(host, {}).get("releases", ())
        return any(
            entry["id"] == self.plan.release and "expand" in entry.get("migrated", ())
            for entry in releases
        )

    def _batch(self, number: int) -> None:
        hosts = [host for host in self.plan.batches[number] if host not in self.losses.out]
        todo = [host for host in hosts if not self.turns.in_place(host)]
        later = [host for batch in self.plan.batches[number + 1 :] for host in batch]
        if not todo and (not hosts or any(self.losses.is_new(host) for host in later)):
            return  # done before this run was taken over, and others went after it
        facts = {"batch": str(number + 1), "hosts": ",".join(hosts)}
        self.hook("before-batch", **facts)
        self._phase("batch", todo, number=number + 1, of=len(self.plan.batches))
        self.watch.start(self.crew)
        self.losses.each(self.turns.forward, todo)
        seconds = self.plan.strategy.soak_after(number)
        if seconds and self.plan.action == "deploy":
            new = [host for host in self.losses.here() if self.losses.is_new(host)]
            self._phase("soak", new, number=number + 1, seconds=seconds)
            self._soak(seconds)
            self._soak_longer()
            self.watch.verdict(number + 1, last=number + 1 == len(self.plan.batches))
        self.hook("after-batch", **facts)
        if number + 1 < len(self.plan.batches):
            self._wait_while_paused()

    def _soak(self, seconds: float) -> None:
        """Watches every process that was switched so far, all at once."""
        if self.watch.hurried:
            return
        steps = [
            step
            for host in self.losses.here()
            for step in self.plan.by_host[host]
            if self.world.live(step) == self.plan.release
        ]
        if not steps:  # time passes all the same: leases are renewed, operators are heard
            self.crew.rest(seconds)
        jobs = {f"{s.host} {s.process}": self.turns.watch(s, seconds) for s in steps}
        self.losses.run(jobs, until=lambda: self.watch.hurried)

    def _soak_longer(self) -> None:
        """A release that answers too few requests to be judged gets more time to do so."""
        end = self.clock.monotonic() + MORE_SECONDS
        while self.watch.undecided() and self.clock.monotonic() < end and not self.watch.hurried:
            self._soak(self.watch.EVERY)

    def _wait_while_paused(self) -> None:
        end = self.clock.monotonic() + PATIENCE
        while self.watch.paused:
            self._soak(self.watch.EVERY)
            if self.clock.monotonic() >= end:
                raise Abort("nobody promoted it in time")

    def _finish(self) -> None:
        """All run it: it is good. What nobody needs any more goes."""
        if self.plan.action == "rollback" and self.losses.out:
            error = endings.rollback_incomplete(self.plan, list(self.losses.out.values()))
            raise _Over(error, None)
        self.hook("before-finish")
        self._phase("finish", self.losses.here())
        already = quarantine.known(self.world.statuses.values())
        loose = self.quarantine.impose(self.losses.out, self.losses.here(), already)
        try:
            self._mark(self.losses.here(), self.plan.release, "good")
        except _Over as over:
            raise _Over(endings.loose(self.plan, loose), None) if loose else over from None
        if self.plan.action == "rollback":
            for old in sorted({step.live for step in self.plan.changes if step.live}):
                hosts = [
                    s.host
                    for s in self.plan.changes
                    if s.live == old and s.host not in self.losses.out
                ]
                with contextlib.suppress(_Over):
                    self._mark(list(dict.fromkeys(hosts)), old, "bad")
        pruned = self.crew.run(
            {
                host: self.reach.only(self.reach.change(host, "prune", {"keep": KEEP}, 40.0))
                for host in self.losses.here()
            }
        )
        for outcome in pruned.values():
            if outcome.error:
                self.reach.warn(outcome.error, "old releases stay: ")
        self.hook("after-finish")
        self.quarantine.lift(self.losses.here())
        if loose:
            raise _Over(endings.loose(self.plan, loose), "new")
        self.report(
            Event("done", release=self.plan.release, text=wording.hosts(len(self.losses.here())))
        )

    # Failure.

    def _failed(self, error: HostError) -> _Over:
        """How a run ends that met an error it cannot pass: fenced, untouched, or after a retreat."""
        if error.code in FENCED:
            return _Over(
                endings.fenced(self.plan, self.losses.switched(), error, self.losses.unsure()), None
            )
        if not self.losses.began() and not self.resumed:
            self._discard_uploads()
            return _Over(endings.untouched(self.plan, error), "old")
        self.watch.stop()
        self._phase("retreat", self.plan.hosts, text=error.message)
        try:
            self.hook("before-retreat")
            hosts = list(self.plan.hosts) if self.resumed else self.losses.hosts_begun()
            stuck = self.losses.take_back(hosts, {"event": RETREAT, "why": error.message[:500]})
            stuck |= {h: e for h, e in self.losses.missing.items() if e.code != STRANGER}
            ill = error.code in ("unhealthy", "start_failed", "ill")
            self._take_marks_back([host for host in self.plan.hosts if host not in stuck], ill)
            self.hook("after-retreat")
        except KeyboardInterrupt:
            return self._interrupted()
        except HostError as lost:
            return _Over(
                endings.fenced(self.plan, self.losses.switched(), lost, self.losses.unsure()), None
            )
        return _Over(endings.rolled_back(self.plan, error, stuck), None if stuck else "old")

    def _interrupted(self) -> _Over:
        """Ctrl-C, or a signal that means the same: hands off; the run can be resumed or taken back."""
        untouched = not self.losses.began() and not self.resumed
        error = endings.interrupted(self.plan, self.run, self.losses.switched(), untouched)
        return _Over(error, "old" if untouched else None)

    def _discard_uploads(self) -> None:
        if self.cargo:
            cargo = self.cargo
            self.crew.run({host: cargo.take_back(host, self.reach) for host in self.plan.hosts})

    def _take_marks_back(self, hosts: list[str], ill: bool) -> None:
        """A release that was taken back is not good, even if this run had called it so already. If it
        was before, it must not be the last of them either: the way back leads from what is live."""
        good = {host: self.world.statuses.get(host, {}).get("good", ()) for host in hosts}
        if not self.plan.known_good:
            called = [host for host in hosts if ill or self.plan.release in good[host]]
            with contextlib.suppress(_Over):
                self._mark(called, self.plan.release, "bad" if ill else "staged")
            return
        for before in self.plan.were_good:
            behind = [
                host
                for host in dict.fromkeys(s.host for s in self.plan.changes if s.live == before)
                if good.get(host)
                and (good[host][-1] == self.plan.release or before not in good[host])
            ]
            with contextlib.suppress(_Over):
                self._mark(behind, before, "good")

    def _mark(self, hosts: list[str], release: str, state: str) -> None:
        fields = {"release": release, "state": state}
        outcomes = self.crew.run(
            {host: self.reach.only(self.reach.change(host, "mark", fields)) for host in hosts}
        )
        errors = [outcome.error for outcome in outcomes.values() if outcome.error]
        if errors:
            raise _Over(endings.not_marked(self.plan, errors), None)

    # Small things.

    def _phase(self, phase: str, hosts: Iterable[str], text: str = "", **data: Any) -> None:
        self.report(Event("phase", text=text, data={"phase": phase, "hosts": list(hosts), **data}))
