"""Hosts that said the same, together; and what others said differently. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backline.operations.adhoc.results import Result, State

TEXT_STATES = ("ok", "failed", "timeout")


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
        errors = [f"stderr: {line}" for line in self.result.err.splitlines()]
        return [*self.result.out.splitlines(), *errors]


def fold(results: Iterable[Result]) -> list[Group]:
    """Groups of hosts with the same outcome: those that went well first, larger ones before smaller.

    Errors name addresses: hosts without an answer belong together when the kind of error is the same.
    """
    found: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        found.setdefault(_key(result), []).append(result)
    groups = [Group(tuple(r.host for r in same), same[0]) for same in found.values()]
    order = list(State.__args__)  # type: ignore[attr-defined]
    return sorted(groups, key=lambda g: (order.index(g.state), -len(g.hosts), min(g.hosts)))


def majority(groups: Sequence[Group]) -> Group | None:
    """The largest group that said something; of two that are as large, the one that went well."""
    said = [group for group in groups if group.state in TEXT_STATES]
    return max(said, key=lambda group: len(group.hosts), default=None)


def difference(usual: Group, other: Group, names: tuple[str, str]) -> list[str]:
    """How `other` differs from `usual`, as a unified difference; `names`: what the two are called."""
    return list(
        difflib.unified_diff(usual.lines, other.lines, names[0], names[1], n=1, lineterm="")
    )


def _key(result: Result) -> tuple[object, ...]:
    if result.state in TEXT_STATES:
        return result.state, result.code, result.stdout, result.stderr
    return result.state, result.kind
