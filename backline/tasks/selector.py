"""`fab -H stream1 drain`: a task whose hosts are its first word has them by -H already."""

from __future__ import annotations

import sys
from typing import Any

from invoke.parser.argument import Argument
from invoke.tasks import Task

WORD = "on"


class Operation(Task[Any]):
    """A task that needs no word for its hosts where -H names them."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """The task's arguments, for the parser, which has read the flags before the task by now."""
        found = super().get_arguments(ignore_unknown_help)
        for argument in found:
            if argument.positional and argument.name == WORD and _named():
                argument.positional, argument.default = False, ""
        return found


def _named() -> bool:
    """Whether -H is on the command line of `fab`, before or behind the task."""
    program = getattr(sys.modules.get("fabric.main"), "program", None)
    core = getattr(program, "core", None)
    if not core:
        return False  # somebody else's parser, such as the one that makes the reference
    return bool(core[0].args.hosts.value) or not {"-H", "--hosts"}.isdisjoint(core.unparsed)
