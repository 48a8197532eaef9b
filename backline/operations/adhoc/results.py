"""What came of a command, host by host. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsIndex, overload

from backline import wording
from backline.errors import BacklineError
from backline.transport.port import (
    GRACE_SECONDS,
    KEY_CHANGED,
    LOST_SECONDS,
    DeadlinePassed,
    HostError,
    Reply,
    Unreachable,
)

State = Literal["ok", "failed", "timeout", "unreachable", "interrupted", "skipped"]
WORDS: dict[State, str] = {
    "failed": "failed",
    "timeout": "not done in time",
    "unreachable": "unreachable",
    "interrupted": "interrupted",
    "skipped": "not begun",
}


@dataclass(frozen=True)
class Result:
    """One host's part.

    `state`: ok (it ended with 0), failed (another exit code), timeout (it was ended), unreachable
    (what it did is not known), interrupted (we were; it was asked to end), skipped (it was not
    begun). `sent`: False when the host was certainly told nothing.
    `stdout` and `stderr`: what had come of them until then, in every state.
    `code`: the exit code, None when there is none. `why`: in words, for states without a code, and
    `kind`: the same for programs. `cut`: there was more output than was kept, and `beyond` has digests
    of the rest of both streams. `seconds`: from its turn to its end.
    """

    host: str
    state: State
    code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    why: str = ""
    kind: str = ""
    hint: str = ""
    cut: bool = False
    beyond: tuple[str, str] = ("", "")
    sent: bool = True

    @property
    def ok(self) -> bool:
        """It ended with 0."""
        return self.state == "ok"

    @property
    def out(self) -> str:
        """Its standard output as text, without the last line's end."""
        return self.stdout.decode(errors="replace").removesuffix("\n")

    @property
    def err(self) -> str:
        """Its standard error as text, without the last line's end."""
        return self.stderr.decode(errors="replace").removesuffix("\n")

    def as_json(self) -> dict[str, Any]:
        """The NDJSON line."""
        return {
            "schema_version": 1,
            "event": "result",
            "host": self.host,
            "state": self.state,
            "code": self.code,
            "stdout": self.stdout.decode(errors="replace"),
            "stderr": self.stderr.decode(errors="replace"),
            "cut": self.cut,
            "seconds": round(self.seconds, 3),
            "error": {"code": self.kind, "message": self.why} if self.why else None,
        }


def of_reply(host: str, reply: Reply, seconds: float) -> Result:
    """The result of a command that ended by itself."""
    state: State = "failed" if reply.code else "ok"
    hint = ""
    if reply.code and reply.stderr.startswith(b"sudo: "):
        hint = "--sudo logs in as the inventory's ansible_user, whom sudo has to allow everything"
    return _with(reply, Result(host, state, reply.code, seconds=seconds, hint=hint))


def of_error(host: str, error: HostError, seconds: float) -> Result:
    """The result of a host that gave none, or was not done in time."""
    state: State = "unreachable" if isinstance(error, Unreachable) else "failed"
    why, kind, hint = error.message, error.code, error.hint
    if isinstance(error, DeadlinePassed):
        late = Result(host, "timeout", seconds=seconds, why=why, kind=kind, hint=hint)
        return _with(error.reply, late)
    result = Result(host, state, seconds=seconds, why=why, kind=kind, hint=hint)
    if isinstance(error, Unreachable):
        result = replace(result, sent=error.sent)
        return _with(error.reply, result) if error.reply else result
    return result


def _with(reply: Reply, result: Result) -> Result:
    """The result with what the command wrote."""
    out, err = reply.stdout, reply.stderr
    return replace(result, stdout=out, stderr=err, cut=reply.cut, beyond=reply.beyond)


class Results(tuple[Result, ...]):
    """The results of all hosts, in inventory order."""

    @overload
    def __getitem__(self, key: str) -> Result: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> Result: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Result, ...]: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> Result | tuple[Result, ...]:
        """By number, or by the name of the host (KeyError when it was not asked)."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        for result in self:
            if result.host == key:
                return result
        raise KeyError(key)

    @property
    def ok(self) -> bool:
        """Every host ended with 0."""
        return all(result.ok for result in self)

    def hosts(self, *states: State) -> list[str]:
        """The hosts in one of these states."""
        return [result.host for result in self if result.state in states]

    def check(self) -> Results:
        """Itself, when every host ended with 0. Raises BacklineError (1), naming those that did not."""
        error = failure(self)
        if error:
            raise error
        return self


def failure(results: Iterable[Result]) -> BacklineError | None:
    """What went wrong, in one sentence; None when nothing did."""
    found = list(results)
    bad = [result for result in found if not result.ok]
    if not bad:
        return None
    counts = [
        f"{sum(result.state == state for result in bad)} {word}"
        for state, word in WORDS.items()
        if any(result.state == state for result in bad)
    ]
    by_weight = sorted(bad, key=lambda result: result.kind != KEY_CHANGED)
    return BacklineError(
        f"{', '.join(counts)} of {wording.hosts(len(found))}",
        hosts=[result.host for result in bad],
        state=_unknown(result for result in bad if result.state == "unreachable"),
        hint=next((result.hint for result in by_weight if result.hint), ""),
    )


def _unknown(unreachable: Iterable[Result]) -> str:
    """What is not known of hosts that gave no answer."""
    sent: dict[bool, list[str]] = {True: [], False: []}
    for result in unreachable:
        sent[result.sent].append(result.host)
    if not sent[True]:
        return "nothing was sent to the unreachable hosts" if sent[False] else ""
    if not sent[False]:
        return "what the unreachable hosts did is not known"
    from backline.selection import fold

    others = "nothing was sent to the other unreachable hosts"
    return f"what {fold(sent[True])} did is not known; {others}"


def after_interruption(results: Iterable[Result], timeout: float) -> str:
    """What may still go on where, after Ctrl-C. `timeout`: the seconds that each host had."""
    if not any(result.state == "interrupted" and result.sent for result in results):
        return "nothing was running on the hosts"
    return (
        f"what was running on the hosts was asked to end, and is killed {GRACE_SECONDS} s later; "
        f"a host out of reach ends it when it notices: within {LOST_SECONDS} s, "
        f"or when its {timeout:g} s are over"
    )
