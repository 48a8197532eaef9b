"""Commands of the operator's own, run on this machine before and after the phases of a run."""

from __future__ import annotations

from collections.abc import Mapping

from backline import places
from backline.errors import BacklineError
from backline.transport import local

SECONDS = 300.0
PHASES = tuple(
    f"{when}-{phase}"
    for phase in ("stage", "migrate", "batch", "finish", "retreat")
    for when in ("before", "after")
)


class Hooks:
    """`commands`: phase (before-batch, after-finish, …) → a line for the shell.

    The command finds what it needs in its environment: BACKLINE_RUN, BACKLINE_APP,
    BACKLINE_RELEASE, BACKLINE_ACTION, BACKLINE_PHASE, and BACKLINE_BATCH and BACKLINE_HOSTS for a
    batch. Raises BacklineError for a phase that does not exist.
    """

    def __init__(self, commands: Mapping[str, str]) -> None:
        unknown = sorted(set(commands) - set(PHASES))
        if unknown:
            raise BacklineError(
                f"rollout_hooks names {', '.join(unknown)}, and there is no such phase",
                state="nothing was changed",
                hint=f"phases: {', '.join(PHASES)}",
            )
        self.commands = dict(commands)

    def wants(self, phase: str) -> bool:
        """Whether there is a command for this phase."""
        return phase in self.commands

    def run(self, phase: str, facts: Mapping[str, str]) -> str:
        """Runs the phase's command; returns why it failed, or nothing."""
        known = {f"BACKLINE_{key.upper()}": value for key, value in facts.items()}
        words = ["sh", "-c", self.commands[phase]]
        try:
            done = local.run(
                words,
                cwd=places.root(),
                env={**known, "BACKLINE_PHASE": phase},
                deadline=SECONDS,
            )
        except BacklineError as error:
            return error.message
        said = (done.stderr or done.stdout).strip()[-300:]
        return f"exit code {done.code}: {said}" if done.code else ""
