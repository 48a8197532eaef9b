"""What all operators' tasks (`fab`) share: the environment, the selection, the run, the question."""

from __future__ import annotations

import functools
import getpass
import inspect
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from invoke.tasks import Task

from backline import stdout, wording
from backline.errors import BacklineError, Exit
from backline.tasks import last_line
from backline.tasks.command import command, say
from backline.tasks.selector import Operation

if TYPE_CHECKING:
    from types import FrameType

    from backline.inventory import Environment
    from backline.rollout.lease import Run
    from backline.transport.fleet import SshFleet
    from backline.transport.port import Clock

ENV_HELP = "which fleet: a folder of inventory/ (default: $BACKLINE_ENV)"
ON_HELP = "which hosts: an Ansible pattern such as 'streaming:&zone_a:!stream3'"
JSON_HELP = "one JSON object per line on stdout, and no questions"
YES_HELP = "answer the question for how many hosts this will touch"
DRY_HELP = "say what would be done and end; nothing is changed"
MESSAGE_HELP = "why: kept in the journal of every host"
SELECTOR = "backline_selector"


class Signalled(KeyboardInterrupt):
    """A signal to end, which is no Ctrl-C of somebody who has seen enough."""


def operation(**options: Any) -> Callable[[Callable[..., None]], Task[Any]]:
    """`command` for operators: `-H` fills --on, --json prints errors as JSON too, and a signal to
    end (TERM, or HUP when the terminal goes away) is treated like Ctrl-C."""

    def declare(body: Callable[..., None]) -> Task[Any]:
        @functools.wraps(body)
        def run(c: Any, *words: Any, **flags: Any) -> None:
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup, stay
                    signal.signal(number, _interrupt)
            try:
                _select(c, flags)
                body(c, *words, **flags)
            except BacklineError as error:
                if flags.get("json"):
                    last_line.tell(error)
                raise
            except (KeyboardInterrupt, SystemExit) as end:
                signalled = isinstance(end, KeyboardInterrupt) or end.code == Exit.INTERRUPTED
                if signalled and flags.get("json"):
                    last_line.tell(last_line.interrupted())
                raise

        run.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
        return command(klass=Operation, **options)(run)

    return declare


def _select(c: Any, flags: dict[str, Any]) -> None:
    """Hands what -H says to the task as its --on. Raises BacklineError when it has none, and
    when --on was given as well."""
    selector = c.config.get(SELECTOR)
    if not selector:
        return
    if "on" not in flags:
        raise BacklineError(
            "this task does not select hosts, so -H means nothing",
            state="nothing was changed",
            hint="the same without -H",
        )
    if flags["on"]:
        raise BacklineError(
            "-H and --on both name hosts", state="nothing was changed", hint="one of the two"
        )
    flags["on"] = selector


def several(text: str, flag: str) -> list[str]:
    """What a flag names that takes several, comma-separated, a comma of a name as `\\,`; none where it was
    left out. BacklineError when it was given and names none, as `"$UNIT,"` does of a shell in which UNIT is
    not set: without the flag a default would be meant."""
    words = [word.replace("\\,", ",").strip() for word in re.split(r"(?<!\\),", text)]
    found = [word for word in words if word]
    if text and not found:
        raise BacklineError(
            f"{flag} {text!r} names nothing",
            state="nothing was changed",
            hint=f"name something, or leave {flag} out",
        )
    return found


def environment(name: str) -> Environment:
    """The environment called `name`, or $BACKLINE_ENV; BacklineError listing them when neither."""
    from backline import inventory

    chosen = name or os.environ.get("BACKLINE_ENV", "")
    if not chosen:
        known = ", ".join(inventory.environments()) or "none yet: `inv lab.up` makes one"
        raise BacklineError(
            "which environment? Name it: --env NAME, or set $BACKLINE_ENV",
            state="nothing was changed",
            hint=f"environments: {known}",
        )
    return inventory.load(chosen)


def required(fleet: Environment, on: str) -> str:
    """The pattern of --on where there is no default: what may hurt says where. BacklineError without."""
    if not on.strip():
        raise BacklineError(
            "on which hosts? --on PATTERN says so",
            state="nothing was changed",
            hint=f"groups: {', '.join(fleet.groups)}; every host: --on all",
        )
    return on


def reach(fleet: Environment) -> SshFleet:
    """The environment's hosts over SSH; nothing is connected until it is asked."""
    from backline.transport.fleet import SshFleet

    return SshFleet(fleet.hosts, fleet.known_hosts)


def new_run(app: str, message: str) -> Run:
    """Who we are and what this run is called."""
    from backline.rollout.lease import Run

    user = getpass.getuser()
    name = re.sub(r"[^A-Za-z0-9._-]", "-", user)
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    return Run(
        id=f"{moment}-{name}-{secrets.token_hex(2)}",
        app=app,
        actor=f"{user}@{socket.gethostname()}",
        message=message,
    )


def clock() -> Clock:
    """The time that runs go by."""
    from backline.transport.clock import SystemClock

    return SystemClock()


def group(fleet: Environment, name: str) -> list[str]:
    """The hosts of a group that a task is about. Raises BacklineError when there are none."""
    found = list(fleet.groups.get(name, ()))
    if not found:
        raise BacklineError(f"the inventory has no group {name}", state="nothing was changed")
    return found


def asks(fleet: Environment, yes: int, as_json: bool) -> bool:
    """Whether `confirm` will ask a person."""
    return not yes and fleet.confirm_changes and not as_json and sys.stdin.isatty()


def confirm(
    fleet: Environment,
    count: int,
    yes: int,
    as_json: bool,
    thing: str = "host",
    touched: str = "",
) -> None:
    """Asks for the number of hosts, or of `thing`s, where the environment wants it; `yes` answers beforehand.

    `touched`: what happens where (see wording.touched), said above the question by who has not shown it.
    Raises BacklineError (6) when the number is not `count`: then the operator had something else in
    mind. Never asks with --json or without a terminal. What begins then goes on though nobody reads.
    """
    if yes:
        answer = str(yes)
    elif not fleet.confirm_changes:
        answer = str(count)
    elif not asks(fleet, yes, as_json):
        raise BacklineError(
            f"this changes {wording.counted(count, thing)} of {fleet.name}, and nobody is here to confirm it",
            state="nothing was changed",
            hint=f"add --yes {count}",
            exit_code=Exit.GUARD_REFUSED,
        )
    else:
        if touched:
            say(touched)
        answer = _ask(f"How many {thing}s of {fleet.name} will this touch? ")
    if answer != str(count):
        raise BacklineError(
            f"this would touch {wording.counted(count, thing)} of {fleet.name}, not {answer or 'none'}",
            state="nothing was changed",
            hint=f"look at the plan (--dry-run), then answer with its number of {thing}s",
            exit_code=Exit.GUARD_REFUSED,
        )
    stdout.go_on()


def _ask(question: str) -> str:
    """What is typed; nothing for Ctrl-D. Raises BacklineError for Ctrl-C: nothing has begun."""
    print(question, end="", file=sys.stderr, flush=True)
    try:
        return input().strip()
    except EOFError:
        print(file=sys.stderr)
        return ""
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise BacklineError(
            "interrupted", state="nothing was changed", exit_code=Exit.INTERRUPTED
        ) from None


def insist(fleet: Environment, count: int, yes: int, as_json: bool) -> None:
    """`confirm`, also where the environment wants no questions: it cannot be taken back."""
    from dataclasses import replace

    confirm(replace(fleet, confirm_changes=True), count, yes, as_json)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        hung_up()
    raise Signalled


def hung_up(number: int = 0, frame: FrameType | None = None) -> None:
    """The terminal is going away. The shell and the kernel each say so: the second time it breaks off
    nothing, so that what was begun can be tidied up in peace."""
    from backline.tasks import pipe

    signal.signal(signal.SIGHUP, hung_up)
    pipe.drop_terminal()
