"""How contributors' tasks (`inv`) are declared, and the one place where their errors are printed."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from invoke.tasks import Task, task

from backline import stdout
from backline.errors import BacklineError
from backline.tasks.arguments import Plain
from backline.wording import plain_lines

INTERRUPTED = 130
Choices = Mapping[str, Sequence[str]]


def say(text: str) -> None:
    """Tells the person at the terminal what is going on: stderr, so that stdout stays data."""
    print(f"  {plain_lines(text)}", file=sys.stderr, flush=True)


def fail(error: BacklineError) -> NoReturn:
    """Prints what happened, where, what state things are in and what to do, and exits."""
    with suppress(OSError):  # nobody reads it, or the terminal is gone; the exit code still tells
        print(labelled("error", error.message), file=sys.stderr)
        for label, text in (
            ("hosts", ", ".join(error.hosts)),
            ("state", error.state),
            ("next", error.hint),
        ):
            if text:
                print(labelled(f"  {label}", text), file=sys.stderr)
        missed = stdout.lost()
        if missed is not None:
            print(labelled("error", missed.message), file=sys.stderr)
    sys.exit(error.exit_code)


def labelled(label: str, text: str) -> str:
    """A label and its text, whose further lines begin below the first. Hosts have their say in it: what
    would steer a terminal is shown."""
    return f"{label}: " + plain_lines(text).replace("\n", "\n" + " " * (len(label) + 2))


def command(
    *, choices: Choices | None = None, **options: Any
) -> Callable[[Callable[..., None]], Task[Any]]:
    """`invoke.task` without short flags, whose BacklineErrors end as a message and an exit code.

    `options` go to invoke: `help`, `positional`, `name`, … `choices`: the words that a flag may have, by
    parameter; TAB offers them.
    """

    def declare(body: Callable[..., None]) -> Task[Any]:
        @functools.wraps(body)
        def run(*words: Any, **flags: Any) -> None:
            try:
                stdout.require()
                body(*words, **flags)
            except BacklineError as error:
                fail(error)
            except OSError as error:
                missed = stdout.lost() if stdout.is_loss(error) else None
                if missed is None:
                    raise
                fail(missed)
            except KeyboardInterrupt:
                with suppress(OSError):
                    print("interrupted: run the same command again to go on", file=sys.stderr)
                sys.exit(INTERRUPTED)
            missed = stdout.lost()
            if missed is not None:
                fail(missed)

        run.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
        declared: Task[Any] = task(
            auto_shortflags=False, **{"klass": Plain, "positional": [], **options}
        )(run)
        # invoke takes the texts out of its own copy while it parses; the docs need them too.
        declared.flag_help = dict(options.get("help", {}))  # type: ignore[attr-defined]
        declared.flag_choices = dict(choices or {})  # type: ignore[attr-defined]
        return declared

    return declare
