"""What streaming hosts keep of audio files, and what of it is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.transport.port import Answer, Fleet, HostError, Outcome

SLACK = 15.0


@dataclass(frozen=True)
class Kept:
    """What a host had of the named files: `files` of its cache (slices), of `seen` in all."""

    host: str
    files: int = 0
    bytes: int = 0
    seen: int = 0
    error: str | None = None

    def as_json(self, action: str) -> dict[str, Any]:
        unknown = dict.fromkeys(("files", "bytes", "seen") if self.error is not None else ())
        return {"schema_version": 1, "event": action, **vars(self), **unknown}


def ask(
    fleet: Fleet,
    hosts: Iterable[str],
    fields: Mapping[str, Any],
    seconds: int,
    told: Callable[[Kept], None] = lambda kept: None,
) -> list[Kept]:
    """Counts or drops on all hosts at once; `told` hears of each as it ends. Never raises for a host."""
    whole = {**fields, "seconds": seconds}

    def work(host: str) -> Answer:
        return fleet.call(host, "cache", whole, deadline=seconds + SLACK)

    def done(host: str, outcome: Outcome[Answer]) -> None:
        told(_kept(host, outcome))

    outcomes = fleet.each(list(hosts), work, deadline=seconds + SLACK, done=done)
    return [_kept(host, outcome) for host, outcome in outcomes.items()]


def judge(found: Iterable[Kept], dropped: bool) -> None:
    """Raises BacklineError naming the hosts that did not answer."""
    silent = [kept for kept in found if kept.error is not None]
    if silent:
        raise BacklineError(
            wording.each((kept.host, kept.error) for kept in silent),
            hosts=[kept.host for kept in silent],
            state="the others have dropped them; listeners of these hosts may hear old slices"
            if dropped
            else "nothing was changed",
            hint="the same command again, for these alone with --on",
        )


def _kept(host: str, outcome: Outcome[Answer]) -> Kept:
    answer = outcome.value
    if answer is None:
        error: HostError | None = outcome.error
        return Kept(host, error=error.message if error else "no answer")
    return Kept(host, answer["files"], answer["bytes"], answer["seen"])
