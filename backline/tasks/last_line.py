"""The last line of `--json` when something went wrong, whoever noticed: a task, fab's own parser, Python.

A task tells of its errors itself (operator.py). What the parser of `fab` refuses never reaches one, and
`fab` ends by itself then: all that is left for us to do is done at the end of the process.
"""

from __future__ import annotations

import atexit
import sys
from contextlib import suppress
from types import TracebackType
from typing import Any

from backline.errors import BacklineError, Exit


def tell(error: BacklineError) -> None:
    """Prints an error as docs/reference/json.md has it; nothing when nobody reads that any more."""
    from backline.console import line

    with suppress(OSError):  # the message on stderr and the code still matter
        line(
            {
                "schema_version": 1,
                "event": "error",
                "message": error.message,
                "hosts": list(error.hosts),
                "state": error.state,
                "hint": error.hint,
                "exit_code": int(error.exit_code),
            }
        )


def always() -> None:
    """For the file that `fab` loads: from now on no error ends a command with --json without its line."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _asked() and not isinstance(error, BrokenPipeError):
            tell(_refusal(str(error)) if _unparsed() else _fault(error))
        usual(kind, error, trace)

    sys.excepthook = hook
    atexit.register(_tell_of_the_parser)


def refused(text: str) -> None:
    """Tells programs, if they read along, what people are told of a command line that is not taken: the
    message alone, or as `fail` prints it, with lines for the state and what to do next."""
    if _asked():
        tell(_refusal(text))


def interrupted() -> BacklineError:
    """Ctrl-C, or a signal to end, of a task that has nothing of its own to say of it."""
    return BacklineError(
        "interrupted", hint="run the same command again to go on", exit_code=Exit.INTERRUPTED
    )


def _asked() -> bool:
    return "--json" in sys.argv[1:]


def _fault(error: BaseException) -> BacklineError:
    what = f"a fault of Backline itself: {type(error).__name__}: {error}"
    return BacklineError(what, hint="fab status shows what runs; the traceback is on stderr")


def _refusal(text: str) -> BacklineError:
    message, *more = text.removeprefix("error: ").splitlines() or [""]
    said = {
        name.strip(): what for name, colon, what in (row.partition(": ") for row in more) if colon
    }
    return BacklineError(
        message,
        state=said.get("state", "nothing was changed"),
        hint=said.get("next", "fab --list; fab --help TASK shows its flags"),
    )


def _unparsed() -> Any:
    """fab's program, if its parser did not take the command line; else None."""
    program = getattr(sys.modules.get("fabric.main"), "program", None)
    # What it has understood is kept in `tasks`.
    return program if hasattr(program, "parser") and not hasattr(program, "tasks") else None


def _tell_of_the_parser() -> None:
    """fab has told people already, and kept nothing of it: so the parser is asked once more."""
    from invoke.exceptions import ParseError

    program = _unparsed() if _asked() else None
    if program is None:
        return
    try:
        program.parser.parse_argv(program.core.unparsed)
    except ParseError as error:
        refused(str(error))
    except ValueError as error:  # no number where there must be one
        if not hasattr(sys, "last_value"):  # else it went through our hook
            refused(f"a flag of fab takes a whole number: {error}")
