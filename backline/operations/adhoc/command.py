"""Carries out one command on many hosts: so many at a time, each with a deadline, none waits for another.

Without a fanout every host gets its turn at once, as fast as connections can be made: a host that
has been silent for a second holds nobody up. So the run ends when the deadline does, however many
hosts never answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from backline import wording
from backline.errors import BacklineError
from backline.operations.adhoc.results import Result, Results, of_error, of_reply
from backline.transport.port import Clock, Ended, Heard, HostError, Shells, Unreachable

FRESH_SECONDS = 1.0
FRESH_MOST = 48
"""Handshakes at a time: they are work for this machine, waiting for an answer is none."""
QUIET_SECONDS = 2.0
GIVE_UP_SECONDS = 1.9
"""After its deadline a host has this long to say how it ended."""
GATHER_SECONDS = 0.5
"""After an interruption hosts have this long to hand over what they had; connections end at once."""
ASKED = "interrupted: it was asked to end"
UNASKED = "interrupted: nothing was sent yet"
CUT_KINDS = "lost", "deadline", "interrupted"
STDIN_MOST = 16 << 20


@dataclass(frozen=True)
class Job:
    """What to do. `timeout`: seconds from a host's turn, the connection included. `fanout`: at most
    so many hosts at a time, 0: all. `max_fail`: after so many failures no other host is begun, 0:
    all are. `kept`: connections stay open for the next command."""

    command: str
    timeout: float = 60.0
    fanout: int = 0
    max_fail: int = 0
    sudo: bool = False
    stdin: bytes = b""
    kept: bool = False

    def check(self) -> None:
        """Raises BacklineError when it makes no sense."""
        if not self.command.strip():
            raise BacklineError("which command? It is empty", state="nothing was run")
        if "\0" in self.command:
            raise BacklineError("no command can hold a zero byte", state="nothing was run")
        try:
            self.command.encode()
        except UnicodeEncodeError:
            raise BacklineError(
                "the command has bytes that are not UTF-8",
                state="nothing was run",
                hint="printf makes such bytes on the host: printf '\\377'; or feed them as input",
            ) from None
        if not 1 <= self.timeout <= 86400:
            raise BacklineError("--timeout is a number of seconds from 1 to 86400")
        if self.fanout < 0 or self.max_fail < 0:
            raise BacklineError("--fanout and --max-fail are numbers from 0 up")
        if len(self.stdin) > STDIN_MOST:
            raise BacklineError(
                f"the input is longer than {STDIN_MOST >> 20} MiB",
                state="nothing was run",
                hint="ship files with a role or a release; a command gets what fits in memory",
            )


class Command:
    """One run of a job. `told` gets each result as it comes, `heard` the output before that (from
    several threads), `quiet` is called when nothing has come for a while."""

    def __init__(
        self,
        fleet: Shells,
        job: Job,
        clock: Clock,
        told: Callable[[Result], None] = lambda result: None,
        heard: Callable[[str, str, bytes], None] | None = None,
        quiet: Callable[[], None] = lambda: None,
    ) -> None:
        job.check()
        self.fleet, self.job, self.clock = fleet, job, clock
        self.told, self.heard, self.quiet = told, heard, quiet
        self.interrupted = False
        self._found: deque[Ended] = deque()
        self._cut: set[str] = set()
        self._begun: dict[int, float] = {}
        self._results: dict[str, Result] = {}
        self._failed = 0

    def carry_out(self, hosts: Sequence[str]) -> Results:
        """The results of all hosts. Ctrl-C ends what runs; see `interrupted` then. So does whatever is
        raised by who is told."""
        self._hosts, self._start = list(hosts), self.clock.monotonic()
        self._waiting = deque(range(len(self._hosts)))
        self._hands = self.fleet.hands()
        try:
            self._loop()
        except KeyboardInterrupt:
            self.interrupted = True
            self._cut = set(self.fleet.cut(self._hosts[ticket] for ticket in self._begun))
            with suppress(KeyboardInterrupt):
                self._gather()
            self._rest()
        except BaseException:
            self.fleet.cut(self._hosts[ticket] for ticket in self._begun)
            raise
        return Results(self._results[host] for host in self._hosts)

    def _loop(self) -> None:
        while self._waiting or self._begun:
            while self._waiting and self._may_begin():
                self._begin(self._waiting.popleft())
            if not self._begun:
                self._rest()
                return
            found = self._hands.wait(FRESH_SECONDS / 4 if self._waiting else QUIET_SECONDS)
            self._take_all(found)
            if not found and not self._waiting:
                self.quiet()

    def _may_begin(self) -> bool:
        if self.job.max_fail and self._failed >= self.job.max_fail:
            return False
        if self.job.fanout:
            return len(self._begun) < self.job.fanout
        now = self.clock.monotonic()
        fresh = sum(now - began < FRESH_SECONDS for began in self._begun.values())
        return fresh < FRESH_MOST and now - self._start < self.job.timeout

    def _begin(self, ticket: int) -> None:
        host, now = self._hosts[ticket], self.clock.monotonic()
        left = self.job.timeout if self.job.fanout else self._start + self.job.timeout - now
        self._begun[ticket] = now
        self._hands.begin(ticket, host, lambda: self._work(host, left), left + GIVE_UP_SECONDS)

    def _work(self, host: str, left: float) -> Result:
        job, began = self.job, self.clock.monotonic()
        try:
            if self.interrupted:
                raise Unreachable(host, UNASKED, code="interrupted", sent=False)
            reply = self.fleet.run(
                host,
                job.command,
                deadline=left,
                stdin=job.stdin,
                sudo=job.sudo,
                heard=self._ear(host),
            )
            result = of_reply(host, reply, self.clock.monotonic() - began)
        except HostError as error:
            result = of_error(host, error, self.clock.monotonic() - began)
        if not job.kept:
            self.fleet.let_go(host)
        return result

    def _ear(self, host: str) -> Heard | None:
        heard = self.heard
        return (lambda stream, data: heard(host, stream, data)) if heard else None

    def _take_all(self, found: Sequence[Ended]) -> None:
        self._found.extend(found)
        while self._found:
            self._end(self._found.popleft())

    def _gather(self) -> None:
        """What was cut off says what it had of output; what had ended before is still heard of."""
        end = self.clock.monotonic() + GATHER_SECONDS
        left = GATHER_SECONDS
        self._take_all(())
        while left > 0 and any(self._hosts[ticket] in self._cut for ticket in self._begun):
            self._take_all(self._hands.wait(left))
            left = end - self.clock.monotonic()
        self._take_all(self._hands.wait(0))

    def _end(self, ended: Ended) -> None:
        host, began = self._hosts[ended.ticket], self._begun.pop(ended.ticket)
        if isinstance(ended.error, HostError):
            self._take(of_error(host, ended.error, self.clock.monotonic() - began))
        elif ended.error is not None:
            raise ended.error
        else:
            self._take(ended.value)

    def _take(self, result: Result) -> None:
        if self.interrupted and result.kind in CUT_KINDS:
            why = ASKED if result.sent else UNASKED
            result = replace(result, state="interrupted", why=why, kind="interrupted", hint="")
        self._results[result.host] = result
        self._failed += not result.ok
        self.told(result)

    def _rest(self) -> None:
        """Says of every host without a result why it has none."""
        now = self.clock.monotonic()
        for ticket, host in enumerate(self._hosts):
            if host in self._results:
                continue
            if ticket in self._begun:
                seconds = now - self._begun[ticket]
                sent = host in self._cut
                why = ASKED if sent else UNASKED
                cut = Result(host, "interrupted", why=why, kind="interrupted", sent=sent)
                self._take(replace(cut, seconds=seconds))
            else:
                self._take(Result(host, "skipped", why=self._why_not(), kind="skipped"))
        self._begun.clear()
        self._waiting.clear()

    def _why_not(self) -> str:
        if self.interrupted:
            return "not begun: interrupted before its turn"
        if self.job.max_fail and self._failed >= self.job.max_fail:
            return f"not begun: {wording.hosts(self.job.max_fail)} had failed"
        return f"not begun: its turn did not come within {self.job.timeout:g} s"
