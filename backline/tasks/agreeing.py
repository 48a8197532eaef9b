"""The question before a change that is not counted in hosts: jobs, sessions, files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from backline.errors import BacklineError, Exit

if TYPE_CHECKING:
    from backline.inventory import Environment


def agree(fleet: Environment, count: int, things: str, yes: int, as_json: bool) -> None:
    """Asks for the number of `things` where the environment wants it; `yes` answers beforehand.

    Raises BacklineError (6) when the number is not `count`. Never asks with --json or without a terminal.
    """
    if yes:
        answer = str(yes)
    elif not fleet.confirm_changes:
        return
    elif as_json or not sys.stdin.isatty():
        raise BacklineError(
            f"this concerns {count} {things} of {fleet.name}, and nobody is here to confirm it",
            state="nothing was changed",
            hint=f"add --yes {count}",
            exit_code=Exit.GUARD_REFUSED,
        )
    else:
        print(f"How many {things} of {fleet.name} does this concern? ", end="", file=sys.stderr)
        answer = input().strip()
    if answer != str(count):
        raise BacklineError(
            f"this concerns {count} {things} of {fleet.name}, not {answer or 'none'}",
            state="nothing was changed",
            hint=f"look first (--dry-run), then answer with the number of {things}",
            exit_code=Exit.GUARD_REFUSED,
        )
