"""What a run will do, as data: it can be kept, named by its digest, and put together from its parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from backline.rollout import strategy as strategies
from backline.rollout.strategy import Strategy
from backline.selection import fold


@dataclass(frozen=True)
class Step:
    """One process on one host: replaces `live` by the plan's release.

    `live` is None where nothing runs yet. `ends`: the plan's release has no such process, so what
    runs of it is stopped.
    """

    host: str
    process: str
    kind: str
    live: str | None
    stop_timeout: int
    ends: bool = False


@dataclass(frozen=True)
class Shipment:
    """What one host is sent: a patch against `base`, or (None) the whole archive. `size`: bytes."""

    host: str
    base: str | None
    size: int


@dataclass(frozen=True)
class Plan:
    """A run: what is sent to whom, where to migrate, and the steps of each host, batch by batch.

    `left_out` are hosts that the operator or an earlier run put into quarantine, `freed` those that
    this run brings out of it. `known_good`: the release was marked good before this run. `were_good`:
    those that it replaces, if they were.
    """

    app: str
    release: str
    version: str
    action: str
    steps: tuple[Step, ...]
    batches: tuple[tuple[str, ...], ...]
    shipments: tuple[Shipment, ...]
    migrate_on: str | None
    strategy: Strategy
    left_out: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()
    known_good: bool = False
    were_good: tuple[str, ...] = ()

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the run, in the order of their turn."""
        return tuple(dict.fromkeys(step.host for step in self.steps))

    @cached_property
    def by_host(self) -> dict[str, tuple[Step, ...]]:
        """Each host's steps, in their order."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.host, []).append(step)
        return {host: tuple(steps) for host, steps in found.items()}

    @cached_property
    def sent(self) -> dict[str, Shipment]:
        """What each host is sent."""
        return {shipment.host: shipment for shipment in self.shipments}

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Each host's turn and the number of its batch."""
        turns = {host: turn for turn, host in enumerate(self.hosts)}
        return {host: (turns[host], n) for n, batch in enumerate(self.batches) for host in batch}

    @cached_property
    def _folded(self) -> str:
        return fold(self.hosts)

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that replace something."""
        return tuple(step for step in self.steps if step.live != self.release)

    @property
    def ship_to(self) -> tuple[str, ...]:
        """The hosts that lack the release."""
        return tuple(shipment.host for shipment in self.shipments)

    @cached_property
    def digest(self) -> str:
        """A name for exactly this plan; how many bytes a patch has is no part of it."""
        data = self.as_data()
        for shipment in data["shipments"]:
            del shipment["size"]
        return hashlib.sha256(_canonical(data).encode()).hexdigest()[:12]

    def as_data(self) -> dict[str, Any]:
        """As JSON has it; `from_data` reads it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    def part(self, host: str) -> dict[str, Any]:
        """What `host` keeps of the plan: with every host's part it can be put together again."""
        return {
            "digest": self.digest,
            "hosts": self._folded,
            "batch": self._places[host][1],
            "turn": self._places[host][0],
            "steps": [asdict(step) for step in self.by_host[host]],
            "shipment": asdict(self.sent[host]) if host in self.sent else None,
            **{name: getattr(self, name) for name in _SHARED},
            "strategy": self.strategy.as_data(),
        }


_LISTS = ("left_out", "freed", "were_good")
_SHARED = ("app", "release", "version", "action", "migrate_on", "known_good", *_LISTS)


def from_data(data: Mapping[str, Any]) -> Plan:
    """The plan that `as_data` gave. Raises KeyError or TypeError for anything else."""
    shared: dict[str, Any] = {
        name: tuple(data[name]) if name in _LISTS else data[name]
        for name in _SHARED
        if name in data  # an older controller knew less
    }
    return Plan(
        **shared,
        steps=tuple(_step(entry) for entry in data["steps"]),
        batches=tuple(tuple(batch) for batch in data["batches"]),
        shipments=tuple(Shipment(**entry) for entry in data["shipments"]),
        strategy=strategies.read(data["strategy"]),
    )


def from_parts(parts: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The plan of which hosts keep these parts, for these hosts alone if some are missing."""
    order = sorted(parts, key=lambda host: parts[host]["turn"])
    first = parts[order[0]]
    batches: dict[int, list[str]] = {}
    for host in order:
        batches.setdefault(parts[host]["batch"], []).append(host)
    return from_data(
        {
            **{name: first[name] for name in _SHARED if name in first},
            "strategy": first["strategy"],
            "steps": [entry for host in order for entry in parts[host]["steps"]],
            "shipments": [parts[h]["shipment"] for h in order if parts[h]["shipment"]],
            "batches": [batches[number] for number in sorted(batches)],
        }
    )


def _step(entry: Mapping[str, Any]) -> Step:
    return Step(**entry)


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def serving(plan: Plan, out: Sequence[str]) -> str | None:
    """The process of which fewer hosts than the floor would serve without the hosts `out`, or None."""
    counts: dict[str, list[str]] = {}
    for step in plan.steps:
        counts.setdefault(step.process, []).append(step.host)
    for process, hosts in counts.items():
        left = sum(host not in out for host in hosts)
        # What must keep out of one batch must also stay when hosts fail.
        if left < len(hosts) and left < len(hosts) - plan.strategy.most_at_once(len(hosts)):
            return process
    return None


STOPPED = (False, "inactive", "failed", "dead")
