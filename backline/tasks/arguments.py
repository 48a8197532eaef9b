"""The flags and words of tasks, as `fab` and `inv` take them: mistakes in them are told in one line.

invoke shows a traceback for `--timeout soon`, takes `--help` for a task's first word, and `--on "$HOSTS"`
of a shell in which HOSTS is not set for a flag that was left out: then its default would be meant, which is
every host in many tasks.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task

HELP = ("--help", "-h")
KINDS = {int: "a whole number", float: "a number"}


class Checked(Argument):
    """An argument that says what is wrong with its value."""

    def __repr__(self) -> str:
        return f"--{self.names[0]}"  # as invoke's own errors name it

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Takes a value from the command line. Raises ParseError, which is printed, and exit code 1."""
        if isinstance(value, str) and not self.positional and not value.strip():
            raise ParseError(
                f"error: --{self.names[0]} was given nothing\n"
                "  state: nothing was started\n"
                "  next: a variable that is not set? Give it a value, or leave it out"
            )
        try:
            super().set_value(value, cast)
        except ValueError:
            raise self._no_number(value) from None
        if self.kind is float and not math.isfinite(self.value):
            raise self._no_number(value)
        if self.kind is int and self.value < 0:
            raise ParseError(f"error: --{self.names[0]} is a number from 0 up, not {value}")

    def _no_number(self, value: object) -> ParseError:
        return ParseError(f"error: --{self.names[0]} takes {KINDS[self.kind]}, not {value!r}")


class Plain(Task[Any]):
    """A task with checked arguments, which shows its help where its first word is `--help`."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """The task's arguments, for the parser, which has read the flags before the task by now."""
        found: list[Argument] = [
            Checked(
                names=argument.names,
                kind=argument.kind,
                default=argument.default,
                help=argument.help,
                positional=argument.positional,
                optional=argument.optional,
                incrementable=argument.incrementable,
                attr_name=argument.attr_name,
            )
            for argument in super().get_arguments(ignore_unknown_help)
        ]
        if _help_is_wanted(found):
            for argument in found:  # or the parser would take `--help` for the first of them
                argument.positional = False
        return found


def core() -> Any:
    """What `fab` or `inv` has parsed so far, the flags before the task; None for anybody else's parser,
    such as the one that makes the reference."""
    for name in ("fabric.main", "invoke.main"):
        found = getattr(getattr(sys.modules.get(name), "program", None), "core", None)
        if found:
            return found
    return None


def _help_is_wanted(arguments: list[Argument]) -> bool:
    """Whether the help flag comes before any word of the task: `fab run --env lab --help`."""
    parsed = core()
    flags = {f"--{argument.names[0]}": argument for argument in arguments}
    words = iter(parsed.unparsed[1:] if parsed else ())
    for word in words:
        if word in HELP:
            return True
        if not word.startswith("-"):
            return False
        argument = flags.get(word) or parsed[0].flags.get(word)
        if argument is not None and argument.takes_value:
            next(words, None)
    return False
