"""The one kind of error that Backline shows to people."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """What the process returns; the meaning of each is in docs/reference/exit-codes.md."""

    DONE = 0
    ERROR = 1
    CHANGES_PENDING = 2
    MIXED = 3
    ROLLED_BACK = 4
    LEASE_HELD = 5
    GUARD_REFUSED = 6
    INTERRUPTED = 130


class BacklineError(Exception):
    """Something went wrong that a person must act on.

    `message`: what happened. `hosts`: where. `state`: what state things are in now.
    `hint`: what to type or look at next. `exit_code`: see docs/reference/exit-codes.md.
    """

    def __init__(
        self,
        message: str,
        *,
        hosts: Iterable[str] = (),
        state: str = "",
        hint: str = "",
        exit_code: int = 1,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hosts = tuple(hosts)
        self.state = state
        self.hint = hint
        self.exit_code = exit_code
