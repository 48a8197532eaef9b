"""The operator's own commands, run before and after the phases of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from backline.rollout.crew import Ask, Crew
from backline.rollout.events import Event
from backline.rollout.plan import Plan
from backline.rollout.reach import Reach
from backline.rollout.watch import HookFailed

HOOK_SECONDS = 310.0
TOO_LATE = ("after-finish", "before-retreat", "after-retreat")


class Hooks(Protocol):
    """Commands by phase."""

    def wants(self, phase: str) -> bool:
        """Whether there is one for this phase."""

    def run(self, phase: str, facts: Mapping[str, str]) -> str:
        """Runs it; returns why it failed, or nothing."""


class Hooking:
    """Runs a phase's command, if there is one, while leases are renewed."""

    def __init__(self, hooks: Hooks | None, plan: Plan, run: str, crew: Crew, reach: Reach) -> None:
        self.hooks, self.plan, self.run, self.crew, self.reach = hooks, plan, run, crew, reach

    def __call__(self, phase: str, **more: str) -> None:
        """Runs a command of the operator's own; only at the ends does its failure change nothing."""
        hooks = self.hooks
        if hooks is None or not hooks.wants(phase):
            return
        facts = {
            "run": self.run,
            "app": self.plan.app,
            "release": self.plan.release,
            "action": self.plan.action,
            **more,
        }
        began = self.reach.clock.monotonic()
        self.reach.report(Event("begin", text=f"hook {phase}"))
        ask = Ask("", lambda: hooks.run(phase, facts), HOOK_SECONDS, idle=True)
        outcome = self.crew.run({"hook": self.reach.only(ask)})["hook"]
        why = outcome.error.message if outcome.error else outcome.value
        took = self.reach.clock.monotonic() - began
        self.reach.report(Event("hook", text=f"{phase} {why}".strip(), seconds=took))
        if not why:
            return
        if phase in TOO_LATE:
            self.reach.report(Event("warning", text=f"hook {phase}: {why}"))
        else:
            raise HookFailed(f"hook {phase}: {why}")
