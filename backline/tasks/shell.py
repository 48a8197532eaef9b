"""A prompt for commands on many hosts, whose connections stay open."""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks import run as one
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    YES_HELP,
    confirm,
    environment,
    hung_up,
    operation,
    required,
)

if TYPE_CHECKING:
    from types import FrameType

    from backline.api import Fleet, Selection

DEEPEST = 8
"""Files that include each other end here."""


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + "; `all` for all",
        "sudo": "everything as root: logs in as the inventory's ansible_user",
        "fanout": "at most so many hosts at a time (default: all of them)",
        "timeout": "seconds that each host may take for a command",
        "json": JSON_HELP,
        "dry_run": "show for each command the hosts and the user, and run none; no connection is opened",
        "yes": YES_HELP,
        "message": "why: kept in the audit trail, with each command",
    },
)
def shell(
    c: Context,
    env: str = "",
    on: str = "",
    sudo: bool = False,
    fanout: int = 0,
    timeout: int = 60,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    r"""Run commands at a prompt, on connections that stay open. \help says what else can be typed.

    @HOST COMMAND runs it on some hosts, !include FILE does the lines of a file. Lines can be piped in; then
    the exit code is 1 when any command failed. docs/how-to/run-commands.md

    Examples:
        fab shell --env production --on streaming
        fab shell --env lab --on all --dry-run < checks.txt
        fab shell --env lab --on all < checks.txt
    """
    from backline.api import Fleet
    from backline.operations.adhoc.command import Job

    Job("true", float(timeout), fanout, sudo=sudo).check()
    if isinstance(
        sys.stdin, io.TextIOWrapper
    ):  # a line that is no text is refused, not a traceback
        sys.stdin.reconfigure(errors="surrogateescape")
    for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C ends a command, these end the shell
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    with Fleet(environment(env)) as fleet:
        how = "json" if json else "fold"
        options = Options(sudo, fanout, float(timeout), how, message, dry_run)
        session = Session(fleet, options)
        session.select(required(fleet.environment, on), yes)
        if sys.stdin.isatty():
            session.talk()
        else:
            session.follow(sys.stdin, "input")
            session.verdict()


@dataclass
class Options:
    """What holds for every command until it is set otherwise."""

    sudo: bool
    fanout: int
    timeout: float
    how: str
    message: str
    dry_run: bool = False
    timing: bool = False


class Session:
    """One sitting at the prompt."""

    def __init__(self, fleet: Fleet, options: Options) -> None:
        self.fleet, self.options = fleet, options
        self.failed = 0
        self._confirmed: set[str] = set()
        self._depth = 0

    def select(self, pattern: str, yes: int = 0) -> None:
        """Makes the hosts of a pattern the selection, once they are confirmed."""
        self.selected = self._confirm(self.fleet.on(pattern), yes)

    def talk(self) -> None:
        """Reads from the terminal until it is left. What is wrong with a line does not end it."""
        from backline.tasks.prompt import Prompt

        prompt = Prompt(self.fleet.environment)
        names = self.fleet.environment.name
        sign = " dry run>" if self.options.dry_run else ">"
        while True:
            count = len(self.selected.hosts)
            try:
                self.do(prompt.ask(f"{names} {self.selected.pattern} ({count}){sign} "))
            except EOFError:
                print(file=sys.stderr)
                return
            except KeyboardInterrupt:
                print("^C", file=sys.stderr)
            except Left:
                return
            except BacklineError as error:
                _tell(error)

    def follow(self, lines: Iterable[str], source: str) -> None:
        """Does lines that nobody types. A line that means nothing ends it: BacklineError."""
        for number, text in enumerate(lines, start=1):
            try:
                self.do(text)
            except Left:
                if self._depth:
                    raise
                return
            except BacklineError as error:
                if not isinstance(error, Failed):
                    raise BacklineError(
                        f"{source}, line {number}: {error.message}",
                        hosts=error.hosts,
                        state=error.state or "the lines before it were done",
                        hint=error.hint,
                        exit_code=error.exit_code,
                    ) from None
                if error.exit_code == Exit.INTERRUPTED:  # whoever asked for these lines tells of it
                    raise
                _tell(error)

    def verdict(self) -> None:
        """Raises BacklineError (1) when a command failed anywhere."""
        if self.failed:
            raise BacklineError(
                f"{self.failed} {'command' if self.failed == 1 else 'commands'} did not end with 0 "
                "on every host"
            )

    def do(self, text: str) -> None:
        """One line. Raises Failed for a command, BacklineError for a line that cannot be done, and
        Left."""
        from backline.operations.adhoc import line

        meant = line.parse(text)
        if meant.kind == "run":
            self._run(meant.text, meant.where)
        elif meant.kind == "include":
            self._include(Path(meant.text).expanduser())
        elif meant.kind == "set":
            self._set(meant.where, meant.text)

    def _run(self, command: str, where: str) -> None:
        from backline.operations.adhoc.command import Job

        selected = self._confirm(self.fleet.on(where)) if where else self.selected
        options = self.options
        job = Job(command, options.timeout, options.fanout, sudo=options.sudo, kept=True)
        try:
            job.check()
        except BacklineError as error:
            self.failed += 1
            raise Failed(error) from None
        if options.dry_run:
            one.show_plan(selected, job, options.how == "json")
            return
        began = time.monotonic()
        try:
            one.carry_out(selected, job, options.how, message=options.message)
        except BacklineError as error:
            self.failed += 1
            raise Failed(error) from None
        finally:
            if options.timing:
                seconds = time.monotonic() - began
                print(f"  {seconds:.3f} s, {wording.hosts(len(selected.hosts))}", file=sys.stderr)

    def _include(self, path: Path) -> None:
        if self._depth >= DEEPEST:
            raise BacklineError(f"files include each other, {DEEPEST} deep: {path}")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BacklineError(f"cannot read {path}: {error}", state="nothing was run") from None
        self._depth += 1
        try:
            self.follow(lines, str(path))
        finally:
            self._depth -= 1

    def _set(self, name: str, value: str) -> None:
        from backline import selection
        from backline.operations.adhoc import line

        options = self.options
        if name == "quit":
            raise Left
        if name == "help":
            width = max(map(len, line.HELP))
            for word, text in line.HELP.items():
                print(f"  {word:{width}}  {text}", file=sys.stderr)
        elif name == "on":
            if value:
                self.select(value)
            print(f"  {selection.fold(self.selected.hosts)}", file=sys.stderr)
        elif name == "timing":
            options.timing = not options.timing
            print(f"  timing is {'on' if options.timing else 'off'}", file=sys.stderr)
        elif name == "timeout":
            if not value.isdecimal() or not 1 <= int(value) <= 86400:
                raise BacklineError(r"\timeout takes a number of seconds from 1 to 86400")
            options.timeout = float(value)
        elif options.how != "json":
            options.how = name

    def _confirm(self, selected: Selection, yes: int = 0) -> Selection:
        """Asks about hosts that nobody has confirmed in this sitting yet."""
        new = set(selected.hosts) - self._confirmed
        if new and not self.options.dry_run:
            confirm(self.fleet.environment, len(selected.hosts), yes, self.options.how == "json")
            self._confirmed |= new
        return selected


class Left(Exception):
    """The operator has had enough."""


class Failed(BacklineError):
    """A command that did not end with 0 on every host: no reason to end the sitting."""

    def __init__(self, error: BacklineError) -> None:
        super().__init__(
            error.message,
            hosts=error.hosts,
            state=error.state,
            hint=error.hint,
            exit_code=error.exit_code,
        )


def _tell(error: BacklineError) -> None:
    """What went wrong with one line, shorter than at the end of a task."""
    where = f": {', '.join(error.hosts)}" if error.hosts else ""
    print(wording.plain_lines(f"error: {error.message}{where}"), file=sys.stderr)
    for text in filter(None, (error.state, error.hint)):
        print(f"  {wording.plain_lines(text)}", file=sys.stderr)


def _leave(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        hung_up()
    sys.exit(int(Exit.INTERRUPTED))
