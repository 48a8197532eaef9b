"""What the domain knows of the hosts: this interface. The tests' fake fleet implements it too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Generic, Protocol, TypeVar

from backline.errors import BacklineError, Exit

Answer = dict[str, Any]
T = TypeVar("T")

GRACE_SECONDS = 5
"""From asking a command on a host to end, because we are gone, to killing it."""
LOST_SECONDS = 90
"""A host that loses sight of us without being told notices within so long: sshd's own keep-alive, see
the role base."""
KEY_CHANGED, KEY_UNKNOWN = "host_key_changed", "host_key_unknown"
"""Kinds of Unreachable: another key than the pinned one was offered; none is pinned. They are two, so
that what may be an attack is not taken for one more host that nobody has pinned yet."""


@dataclass(frozen=True)
class Target:
    """Where SSH finds a host, as whom to log in, and with which private key (None: the agent's)."""

    name: str
    address: str
    port: int
    user: str
    key_file: str | None


class HostError(Exception):
    """One host could not do what it was asked; `host`, `message` and `hint` are for people.

    Raised as it is for what hostctl itself answered (`code` is hostctl's, `exit_code` its exit
    status, `details` the whole error object); as `Unreachable` when no answer came.
    """

    def __init__(
        self,
        host: str,
        message: str,
        *,
        code: str = "error",
        hint: str = "",
        exit_code: int = 1,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{host}: {message}")
        self.host = host
        self.message = message
        self.code = code
        self.hint = hint
        self.exit_code = exit_code
        self.details = dict(details or {})

    @property
    def ends_with(self) -> int:
        """The exit code of a task that ends for this: what a host refused is refused by the task as well
        (5, 6), everything else is an error (1)."""
        refused = self.exit_code in (Exit.LEASE_HELD, Exit.GUARD_REFUSED)
        return self.exit_code if refused else Exit.ERROR

    def state(self, known: str) -> str:
        """What state things are in: `known`, unless the host may have done what it was told, and its
        answer is lost."""
        lost = self.sent if isinstance(self, Unreachable) else self.code == "no_answer"
        return f"what {self.host} did of it is not known" if lost else known

    def for_people(self, state: str, hint: str = "") -> BacklineError:
        """The error of a task that ends for this. `state`: what state things are in now; `hint`: what to
        do next, unless the host says it itself."""
        return BacklineError(
            self.message,
            hosts=[self.host],
            state=state,
            hint=self.hint or hint,
            exit_code=self.ends_with,
        )


class Unreachable(HostError):
    """No answer: no connection, a wrong host key, a deadline passed. What the host did is not known.
    `reply`: what came of its output until then, None when no command was begun. `sent`: False when it
    is certain that the host was told nothing."""

    def __init__(
        self,
        host: str,
        message: str,
        *,
        code: str = "error",
        hint: str = "",
        reply: Reply | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(host, message, code=code, hint=hint)
        self.reply, self.sent = reply, sent


class DeadlinePassed(HostError):
    """The host ended a command because its deadline had passed. `reply`: what it wrote until then."""

    def __init__(self, host: str, deadline: float, reply: Reply) -> None:
        super().__init__(host, f"not done within {deadline:g} s: it was ended", code="timeout")
        self.reply = reply


@dataclass(frozen=True)
class Reply:
    """What a remote command left; `code` is -1 when it did not say how it ended. `cut`: it wrote more
    than was kept here; `beyond`: digests of what was not kept of stdout and of stderr, empty where
    all was."""

    code: int
    stdout: bytes
    stderr: bytes
    cut: bool = False
    beyond: tuple[str, str] = ("", "")


Heard = Callable[[str, bytes], None]
"""Takes a piece of a command's output as it comes: "stdout" or "stderr", and the bytes. May block:
then the command waits, and the clock of its deadline here stands still."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one host's part: a value, or the error that took its place."""

    value: T | None = None
    error: HostError | None = None


@dataclass(frozen=True)
class Ended:
    """A piece of work that `Hands` were given has ended, with a value or an error."""

    ticket: int
    value: Any
    error: BaseException | None


class Hands(Protocol):
    """Does what may take long, elsewhere, so that whoever decides never waits for one host."""

    def begin(self, ticket: int, host: str, work: Callable[[], Any], deadline: float) -> None:
        """Starts `work` for `host`; after `deadline` seconds it counts as unreachable."""

    def wait(self, seconds: float) -> list[Ended]:
        """What has ended, as soon as anything has; empty when nothing did within `seconds`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of one request of the probe.

    `at`: when it was due, seconds since the epoch. `ms`: from then to the whole answer, or to the
    error that took its place. `release`: the X-Release of the answer.
    """

    at: float
    ms: float
    status: int | None
    error: str | None
    release: str | None
    path: str

    @property
    def ok(self) -> bool:
        """A whole answer came, and it was a page or a redirect."""
        return self.error is None and self.status is not None and 200 <= self.status < 400


class Probe(Protocol):
    """Real requests that are sent while a run goes on."""

    def samples(self) -> list[Sample]:
        """What came in since the last call."""

    def trouble(self) -> str | None:
        """Why nothing comes in any more, if so."""


Shipped = Callable[[str, int, int], None]
"""Progress of an upload: host, bytes there now, bytes in all."""


class Fleet(Protocol):
    """The hosts of one environment. Every method is safe to call from several threads."""

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> Answer:
        """hostctl's answer to `verb`; HostError when it refuses, Unreachable after `deadline` s."""

    def ship(self, host: str, files: Sequence[Path], progress: Shipped) -> int:
        """Puts files into the host's incoming folder; what is there already is not sent again.

        Returns how many bytes travelled.
        """

    def hands(self) -> Hands:
        """Hands for work on these hosts."""

    def discard(self, host: str, names: Iterable[str]) -> None:
        """Removes files of these names from the host's incoming folder, and parts of them."""

    def each(
        self,
        hosts: Iterable[str],
        work: Callable[[str], T],
        *,
        deadline: float,
        done: Callable[[str, Outcome[T]], None] | None = None,
    ) -> dict[str, Outcome[T]]:
        """Runs `work` for all hosts at once (bounded); none may take longer than `deadline` s.

        `done` is called as each host ends, in the caller's thread. Errors other than HostError
        are raised.
        """


class Shells(Protocol):
    """Hosts that run any command. Safe to call from several threads."""

    def run(
        self,
        host: str,
        command: str,
        *,
        deadline: float,
        stdin: bytes = b"",
        sudo: bool = False,
        heard: Heard | None = None,
    ) -> Reply:
        """Runs `command` by `sh -c`, and nothing of it outlives us or `deadline` seconds.

        `stdin` is all that it reads; `sudo`: as root. DeadlinePassed when the deadline ended it,
        Unreachable when no answer came.
        """

    def hands(self) -> Hands:
        """Hands for work on these hosts."""

    def let_go(self, host: str) -> None:
        """Ends the connection to a host that nothing more is asked of."""

    def cut(self, hosts: Iterable[str]) -> list[str]:
        """Ends the connections to these hosts, and with them what runs there. Whatever was about to
        begin, anywhere, does not. Returns those that there was a connection to."""


class Clock(Protocol):
    """Time, so that tests need none."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that only grow."""

    def sleep(self, seconds: float) -> None:
        """Does nothing for a while."""

    def wait(self, event: Event, seconds: float) -> bool:
        """Waits for the event, at most so long; True when it came."""
