"""`fab -H stream1 drain`: a task whose hosts are its first word has them by -H already."""

from __future__ import annotations

from invoke.parser.argument import Argument

from backline.tasks.arguments import Plain, core

WORD = "on"


class Operation(Plain):
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
    parsed = core()
    if not parsed or "hosts" not in parsed[0].args:
        return False
    return bool(parsed[0].args.hosts.value) or not {"-H", "--hosts"}.isdisjoint(parsed.unparsed)
