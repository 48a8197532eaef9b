"""The way back: every process that a failed run touched runs its former release again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from backline.rollout.plan import Plan, Step
from backline.rollout.reach import SLACK_SECONDS, Reach
from backline.transport.port import HostError

BACK_SECONDS = 90.0


def retreat(
    plan: Plan, begun: Sequence[Step], switched: Sequence[Step], reach: Reach
) -> dict[str, HostError]:
    """Brings all hosts back at once; returns the hosts where it failed, and why.

    `begun` are the steps that the run started, `switched` those whose switch it asked for (whether
    or not an answer came). A step that found its release live already is left as it is.
    """
    touched = [step for step in begun if step.live != plan.release]

    def back(host: str) -> None:
        for step in reversed([step for step in touched if step.host == host]):
            _step_back(step, step in switched, plan, reach)

    hosts = list(dict.fromkeys(step.host for step in touched))
    patience = max((_patience(step) for step in touched), default=0.0)
    count = max((sum(step.host == host for step in touched) for host in hosts), default=0)
    outcomes = reach.attempt(hosts, back, count * (patience + BACK_SECONDS + 2 * SLACK_SECONDS))
    return {host: outcome.error for host, outcome in outcomes.items() if outcome.error}


def _step_back(step: Step, was_switched: bool, plan: Plan, reach: Reach) -> None:
    if step.kind == "singleton":
        _stop(step, plan, reach, force=True)
    if step.live is not None and (was_switched or step.kind == "singleton"):
        with reach.told("rollback", step.host, step.process, step.live):
            fields = {"process": step.process, "to": step.live, "deadline": 30}
            reach.change(step.host, "rollback", fields, BACK_SECONDS)
    if step.kind == "singleton":
        return
    if was_switched and step.live is None:
        _stop(step, plan, reach, force=True)
    elif was_switched:
        _stop(step, plan, reach, force=False)
    else:  # it serves nobody: that it still runs is untidy, not a mixed fleet
        with contextlib.suppress(HostError):
            _stop(step, plan, reach, force=False)


def _stop(step: Step, plan: Plan, reach: Reach, *, force: bool) -> None:
    patience = _patience(step)
    extra = {"force": True} if force else {}
    reach.step(step, "stop", plan.release, patience, deadline=patience, **extra)


def _patience(step: Step) -> float:
    return step.stop_timeout + SLACK_SECONDS
