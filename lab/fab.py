"""`fab` in a checkout's virtual environment: Fabric's, but for what would get past Backline.

`fab -H HOST -- COMMAND` names no task, so Fabric loads neither fabfile.py nor fabric.yaml: it connects by
itself, to whatever host key it meets, and neither guards nor the audit trail hear of it. There is nothing
of a checkout that it would ask before. So this program takes the place of Fabric's own; lab/own-fab puts
it there. It imports nothing of Backline: Fabric finds the checkout from the folder that it is started in.
"""

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn

from fabric.main import program
from invoke.exceptions import ParseError


def refuse(what: str, then: str) -> NoReturn:
    """Ends with what was wrong and what to type instead."""
    sys.exit(f"error: {what}\n  state: nothing was started\n  next: {then}")


def check() -> None:
    """Looks at Fabric's own flags, and at what stands behind `--`, before it does."""
    program.normalize_argv(None)
    program.parse_core_args()
    if program.core.remainder and not program.args.complete.value:
        hosts = shlex.quote(program.args.hosts.value or "HOST")
        command = shlex.quote(program.core.remainder)
        refuse(
            "a command behind -- would skip host keys, deadlines and the audit trail",
            f"fab run {command} --on {hosts}",
        )


def of_fab(parse: Callable[[], None]) -> None:
    """Parses; a value that a flag of fab does not take ends it (those of tasks look at theirs themselves)."""
    try:
        parse()
    except ValueError as error:
        refuse(f"a flag of fab takes a whole number: {error}", "fab --help")


if __name__ == "__main__":
    with suppress(ParseError):  # Fabric will say it
        of_fab(check)
    # They may also stand behind a task.
    program.parse_tasks = partial(of_fab, program.parse_tasks)
    sys.exit(program.run())
