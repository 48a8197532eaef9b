"""What goes wrong, in words that end up in a state file, in the journal and on somebody's screen."""

from __future__ import annotations


class BackupError(Exception):
    """A step failed. `why` is one line; `hint`, if any, says what to do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.why}. {self.hint}" if self.hint else self.why


class RefusedError(BackupError):
    """What is asked for cannot be done; nothing was touched."""


class CommandError(BackupError):
    """A program ended with another code than 0. `output` is all that it said."""

    def __init__(self, why: str, code: int, output: str) -> None:
        super().__init__(why)
        self.code = code
        self.output = output
