"""Hosts that said the same, together; and what others said differently. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backline.operations.adhoc.results import Result, State
from backline.transport.port import KEY_CHANGED

TEXT_STATES = ("ok", "failed", "timeout")
STREAMS = ("stdout", "stderr")


@dataclass(frozen=True)
class Group:
    """Hosts with the same outcome; `result` is the first one's, and stands for all."""

    hosts: tuple[str, ...]
    result: Result

    @property
    def state(self) -> State:
        return self.result.state

    @property
    def lines(self) -> list[str]:
        """What they said: standard output, then each line of standard error marked as such."""
        errors = [f"stderr: {line}" for line in _lines(self.result.stderr)]
        return [*_lines(self.result.stdout), *errors]


def fold(results: Iterable[Result]) -> list[Group]:
    """Groups of hosts with the same outcome: those that went well first, larger ones before smaller,
    and a wrong host key before other reasons of hosts that are unreachable.

    Errors name addresses: hosts without an answer belong together when the kind of error is the same.
    """
    found: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        found.setdefault(_key(result), []).append(result)
    groups = [Group(tuple(r.host for r in same), same[0]) for same in found.values()]
    order = list(State.__args__)  # type: ignore[attr-defined]
    return sorted(
        groups,
        key=lambda g: (
            order.index(g.state),
            g.result.kind != KEY_CHANGED,
            -len(g.hosts),
            min(g.hosts),
        ),
    )


def majority(groups: Sequence[Group]) -> Group | None:
    """The largest group that said something; of two that are as large, the one that went well."""
    said = [group for group in groups if group.state in TEXT_STATES]
    return max(said, key=lambda group: len(group.hosts), default=None)


def difference(usual: Group, other: Group, names: tuple[str, str]) -> list[str]:
    """How `other` differs from `usual`, as a unified difference; `names`: what the two are called.

    Empty only when they said the same: a difference that no line shows is put into words.
    """
    one, two = usual.lines, other.lines
    found = [] if one == two else list(difflib.unified_diff(one, two, *names, n=1, lineterm=""))
    mine, its = usual.result, other.result
    if mine.beyond != its.beyond:
        where = [n for n, a, b in zip(STREAMS, mine.beyond, its.beyond, strict=True) if a != b]
        more = f"{' and '.join(where)} beyond what is kept here: --outdir keeps all of it"
        return [*found, f"({'differs as well' if found else 'what differs lies'} in {more})"]
    if not found and (mine.stdout, mine.stderr) != (its.stdout, its.stderr):
        return ["(differs in bytes that are not shown: --outdir keeps all of it)"]
    return found


def _lines(data: bytes) -> list[str]:
    """Without the end of the last one. Other characters that Unicode takes for an end of line are none."""
    return data.decode(errors="replace").removesuffix("\n").split("\n") if data else []


def _key(result: Result) -> tuple[object, ...]:
    said = result.stdout, result.stderr, result.beyond
    if result.state in TEXT_STATES:
        return result.state, result.code, *said
    return result.state, result.kind, result.sent, *said
