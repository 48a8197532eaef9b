"""What the pools do: one row per pool and host, also for hosts that do not answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backline.errors import BacklineError
from backline.transport.port import Answer, Fleet, Outcome

PATIENCE = 2.0
DEADLINE = 60.0
Job = Mapping[str, Any]


@dataclass(frozen=True)
class Pool:
    """A pool on a host. `children`: how many jobs at once, of which `processes` run (None: no answer).

    `inventory`: what the inventory says of `children`. `active`: what systemd says of the instance.
    `rests`: it does not run since somebody stopped it to stay so, which a scaling that was cut off did not.
    """

    host: str
    process: str
    release: str
    active: str
    queues: str
    children: int
    inventory: int
    node: str
    processes: int | None
    running: tuple[Job, ...]
    reserved: tuple[Job, ...]
    rests: bool

    @property
    def trouble(self) -> str | None:
        """Why somebody should look at it, or None."""
        if self.active != "active":
            return f"{self.process} on {self.host} is {self.active}"
        if self.processes is None:
            return f"{self.process} on {self.host} does not answer its broker"
        return None

    @property
    def behind(self) -> bool:
        """Whether it lacks a start: it is down and does not rest, or runs with another number than is kept.

        Pools that are made of threads tell of no processes.
        """
        if self.active != "active":
            return not self.rests
        return self.processes not in (None, 0, self.children)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "pool", **vars(self)}


@dataclass(frozen=True)
class Singleton:
    """A process that runs once in the fleet, such as the scheduler."""

    host: str
    process: str
    release: str
    active: str

    @property
    def trouble(self) -> str | None:
        """Why somebody should look at it, or None."""
        return (
            None if self.active == "active" else f"{self.process} on {self.host} is {self.active}"
        )

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "singleton", **vars(self)}


@dataclass(frozen=True)
class View:
    """All pools; `silent`: hosts without an answer, and why. `away`: why a host could not ask its broker."""

    pools: tuple[Pool, ...]
    singletons: tuple[Singleton, ...]
    silent: Mapping[str, str]
    away: Mapping[str, str]

    @property
    def troubles(self) -> list[str]:
        """What somebody on call should see."""
        found = [f"{host}: {why}" for host, why in {**self.silent, **self.away}.items()]
        rows: list[Pool | Singleton] = [*self.pools, *self.singletons]
        return found + [row.trouble for row in rows if row.trouble and row.host not in self.away]


def collect(fleet: Fleet, app: str, hosts: Iterable[str]) -> View:
    """Asks all hosts at once; never raises for one that does not answer. BacklineError without hosts."""
    names = list(hosts)
    if not names:
        raise BacklineError("the inventory has no group worker", state="nothing was changed")
    fields = {"app": app, "action": "status", "patience": PATIENCE}

    def ask(host: str) -> Answer:
        return fleet.call(host, "jobs", fields, deadline=DEADLINE)

    return view_of(fleet.each(names, ask, deadline=DEADLINE))


def view_of(outcomes: Mapping[str, Outcome[Answer]]) -> View:
    """One view of what each host said."""
    answers = {host: o.value for host, o in outcomes.items() if o.value is not None}
    return View(
        tuple(_pool(host, row) for host, answer in answers.items() for row in answer["pools"]),
        tuple(
            Singleton(host, row["process"], row["release"], row["active"])
            for host, answer in answers.items()
            for row in answer["singletons"]
        ),
        {host: o.error.message for host, o in outcomes.items() if o.error is not None},
        {host: answer["trouble"] for host, answer in answers.items() if answer["trouble"]},
    )


def _pool(host: str, row: Mapping[str, Any]) -> Pool:
    answer = row["answer"]
    return Pool(
        host=host,
        process=row["process"],
        release=row["release"],
        active=row["active"],
        queues=row["queues"],
        children=row["children"],
        inventory=row["inventory"],
        node=row["node"],
        processes=answer["processes"] if answer else None,
        running=tuple(answer["active"]) if answer else (),
        reserved=tuple(answer["reserved"]) if answer else (),
        # A hostctl from before it told this: who does not run may rest.
        rests=bool(row.get("rests", row["active"] != "active")),
    )
