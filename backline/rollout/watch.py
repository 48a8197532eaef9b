"""What a run listens to while it goes: the probe's requests, and operators at other terminals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backline.rollout.crew import Crew, Job, Pause
from backline.rollout.events import Event, Report
from backline.rollout.judge import Verdict, judge, percentile
from backline.rollout.plan import Plan
from backline.transport.port import Clock, HostError, Probe, Sample

JUDGE_EVERY = 1.0
SAME_SECONDS = 10.0
"""How far apart hosts may tell the time at which they were told the same."""
TOO_FEW = "too few requests came to it to say that it is well"
PATIENCE = 3600.0
LATEST = f"it goes back after {PATIENCE / 60:.0f} minutes"
KEPT = 20_000


class Reason(Exception):
    """Why a run goes back although no single host is to blame."""

    code = "reason"

    def as_error(self) -> HostError:
        """As the errors that hosts cause."""
        return HostError("", str(self), code=self.code)


class Ill(Reason):
    """Listeners notice the new release."""

    code = "ill"


class HookFailed(Reason):
    """A command of the operator's own said no."""

    code = "hook"


class Abort(Reason):
    """An operator wants it taken back."""

    code = "aborted"


class Watch:
    """The probe's samples of one run, judged while it goes, and what operators said meanwhile.

    `paused`: stop after this batch until told to go on. `hurried`: do not soak any more.
    """

    EVERY = 5.0

    def __init__(self, plan: Plan, probe: Probe | None, clock: Clock, report: Report) -> None:
        self.plan, self.probe, self.clock, self.report = plan, probe, clock, report
        self.paused = False
        self.hurried = False
        self.before: list[Sample] = []
        self.during: list[Sample] = []
        self._old = {step.live for step in plan.steps if step.live} - {plan.release}
        self._wanted, self._wanted_at = "", 0.0
        self._wanted_back = ""
        self._begun = self._broken = self._over = False

    def heard(self, wanted: Mapping[str, Any], new: bool = True) -> None:
        """What an operator wants of this run; every host says it, again with each renewal.

        `new` is False for what was said to a controller before us: that is not for us.
        """
        want, at = str(wanted.get("want")), float(wanted.get("at") or 0)
        same = want == self._wanted and at < self._wanted_at + SAME_SECONDS
        if at <= self._wanted_at:
            return
        self._wanted, self._wanted_at = want, at
        if same or not new:
            return
        who = str(wanted.get("actor") or "somebody")
        self.report(Event("wanted", text=f"{want}, says {who}"))
        self.paused = want == "pause"
        self.hurried = want == "promote" or (self.hurried and want != "pause")
        if want == "abort":
            self._wanted_back = who

    def start(self, crew: Crew) -> None:
        """A batch begins: from now on requests are held against those before."""
        if not self._begun:
            self._begun = True
            self.before = self._take()
            crew.background("judge", self._judging())
        self.during = []

    def stop(self) -> None:
        """The run has turned back: nothing is judged any more."""
        self._over = True

    def undecided(self) -> bool:
        """Whether more requests are needed to judge this batch."""
        found = self._judge()
        return found is not None and found.well is None

    def verdict(self, batch: int, last: bool) -> None:
        """The judgement after a batch. Raises Ill."""
        found = self._judge()
        if found is None:
            return
        data = {"batch": batch, "well": found.well, **found.numbers}
        data["p99_ms"] = percentile((s.ms for s in self.during if s.ok), 0.99)
        self.report(Event("verdict", text="; ".join(found.reasons), data=data))
        unsure = found.well is None
        if found.well is False or (unsure and self.plan.strategy.unsure == "back"):
            raise Ill("; ".join(found.reasons) or TOO_FEW)
        if unsure and self.plan.strategy.unsure == "pause" and not last and not self.hurried:
            self.paused = True
            hint = f"fab deploy.promote goes on, fab deploy.abort goes back; by itself {LATEST}"
            self.report(Event("warning", text=f"{TOO_FEW}, paused: {hint}"))

    def _judging(self) -> Job:
        while not self._over:
            yield Pause(JUDGE_EVERY)
            if self._over:
                return
            if self._wanted_back:
                raise Abort(f"taken back by {self._wanted_back}")
            found = self._judge()
            if found is not None and found.well is False:
                data = {"well": False, **found.numbers}
                self.report(Event("verdict", text="; ".join(found.reasons), data=data))
                raise Ill("; ".join(found.reasons))

    def _judge(self) -> Verdict | None:
        if self.probe is None or self.plan.action == "rollback":
            return None
        self.during += self._take()
        del self.during[:-KEPT]
        if self.probe.trouble() and not self._broken:
            self._broken = True
            self.report(Event("warning", text=f"the probe ended: {self.probe.trouble()}"))
        return judge(self.before, self.during, self.plan.release, self._old)

    def _take(self) -> list[Sample]:
        return self.probe.samples() if self.probe else []
