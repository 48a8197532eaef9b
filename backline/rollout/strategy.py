"""How boldly a run goes about it: batches, soak, failure budget, capacity floor. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from backline.errors import BacklineError

_TARGET = re.compile(r"(\d+)(%?)")


@dataclass(frozen=True)
class Strategy:
    """The rules of a run. Each can be set for an environment (`rollout_<name>`) and for one run.

    `batches`: how far each batch goes, as hosts or as a share of them, counted from the start; the
    last one always takes the rest. `by`: `zone` keeps each batch within one zone. `budget`: hosts
    (or a share) that may fail before everything goes back. `soak`: seconds of watching after each
    batch; the last number counts for all later ones. `floor`: the share of a process's hosts that
    must go on serving a proven release. `passes`: good checks in a row before a switch. `deadline`:
    seconds a process may take to become healthy. `warm`: seconds that a replaced web process stays
    up, ready for a rollback. `unsure`: what a verdict without enough requests means (go, pause, back).
    """

    batches: tuple[str, ...] = ("1", "10%", "50%", "100%")
    by: str = ""
    budget: str = "0"
    soak: tuple[float, ...] = (30.0, 10.0)
    floor: str = "50%"
    passes: int = 3
    deadline: float = 45.0
    warm: float = 600.0
    unsure: str = "pause"

    def as_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    def soak_after(self, batch: int) -> float:
        """Seconds to watch after batch number `batch` (from 0)."""
        return self.soak[min(batch, len(self.soak) - 1)]

    def allowed_failures(self, hosts: int) -> int:
        """How many of `hosts` hosts may fail; a share is rounded down."""
        return _share(self.budget, hosts, math.floor)

    def most_at_once(self, hosts: int) -> int:
        """How many of a process's hosts one batch may have: the floor's share keeps out of it."""
        return max(1, hosts - _share(self.floor, hosts, math.ceil))


ZERO_WAIT = Strategy(batches=("100%",), soak=(0.0,), floor="0", passes=1)
"""For a rollback: everywhere at once."""


def read(given: Mapping[str, Any], base: Strategy | None = None) -> Strategy:
    """A strategy from what people wrote: `base` (or the defaults) and, over it, `given`.

    Lists may be text with commas. Empty values leave what is there. Raises BacklineError naming
    what is wrong.
    """
    values: dict[str, Any] = {}
    for field in fields(Strategy):
        value = given.get(field.name)
        if value is None or value == "":
            continue
        try:
            values[field.name] = _READERS[field.name](value)
        except (ValueError, TypeError) as error:
            raise BacklineError(
                f"{field.name} cannot be {value!r}: {error}",
                state="nothing was changed",
                hint=f"for example: {field.name} = {_EXAMPLES[field.name]}",
            ) from None
    start = base or Strategy()
    return Strategy(**{**{f.name: getattr(start, f.name) for f in fields(Strategy)}, **values})


def cut(
    hosts: Sequence[str], strategy: Strategy, zones: Mapping[str, str | None]
) -> list[tuple[str, ...]]:
    """Cuts the hosts, in their order, into the strategy's batches."""
    zone_order = list(dict.fromkeys(zones.get(host) for host in hosts)) if strategy.by else [None]
    found: list[tuple[str, ...]] = []
    for zone in zone_order:
        members = [host for host in hosts if not strategy.by or zones.get(host) == zone]
        # The first host of the whole fleet is the canary; a later zone needs no other.
        targets = strategy.batches if not found else (strategy.batches[1:] or strategy.batches)
        start = 0
        for target in (*targets, "100%"):
            end = _share(target, len(members), math.ceil)
            if end > start:
                found.append(tuple(members[start:end]))
                start = end
    return found


def _share(text: str, of: int, rounding: Any) -> int:
    match = _TARGET.fullmatch(text)
    assert match, text
    number = int(match[1])
    return int(rounding(of * number / 100)) if match[2] else min(number, of)


def _list(value: Any) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, (list, tuple)) else [parts]
    found = [str(part).strip() for part in parts]
    if not found or not all(found):
        raise ValueError("it has an empty part")
    return found


def _target(value: Any) -> str:
    text = str(value).strip()
    match = _TARGET.fullmatch(text)
    if not match or (match[2] and int(match[1]) > 100):
        raise ValueError("a number of hosts, or a percentage up to 100%")
    return text


def _batches(value: Any) -> tuple[str, ...]:
    found = tuple(_target(part) for part in _list(value))
    if any(_TARGET.fullmatch(part)[1].strip("0") == "" for part in found):  # type: ignore[index]
        raise ValueError("a batch of nobody")
    for kind in ("%", ""):
        numbers = [int(part.rstrip("%")) for part in found if part.endswith("%") == bool(kind)]
        if numbers != sorted(set(numbers)):
            raise ValueError("each goes further than the one before")
    return found


def _seconds(value: Any) -> float:
    found = float(value)
    if not 0 <= found <= 86400:
        raise ValueError("seconds, from 0 to 86400")
    return found


def _one_of(*words: str) -> Any:
    def choose(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(filter(None, words))}")
        return str(value)

    return choose


def _passes(value: Any) -> int:
    found = int(value)
    if not 1 <= found <= 100:
        raise ValueError("a number from 1 to 100")
    return found


_READERS: dict[str, Any] = {
    "batches": _batches,
    "by": _one_of("zone"),
    "budget": _target,
    "soak": lambda value: tuple(_seconds(part) for part in _list(value)),
    "floor": _target,
    "passes": _passes,
    "deadline": _seconds,
    "warm": _seconds,
    "unsure": _one_of("go", "pause", "back"),
}
_EXAMPLES = {
    "batches": "1,10%,50%,100%",
    "by": "zone",
    "budget": "1 or 5%",
    "soak": "30,10",
    "floor": "50%",
    "passes": "3",
    "deadline": "60",
    "warm": "600",
    "unsure": "pause",
}
