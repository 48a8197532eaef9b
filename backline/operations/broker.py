"""The brokers as one cluster: members, alarms, queues that cannot lose a node, letters nobody took."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from backline.errors import BacklineError
from backline.transport.port import Answer, Fleet, Outcome

DEADLINE = 90.0  # RabbitMQ's own programs take a second or two to start, each
DEAD = re.compile(r"(?:^|[._-])(?:dead|dlq)(?:[._-]|$)")

COPIES = 3
"""As many copies as a quorum queue has where there are brokers enough, see roles/broker."""
EACH = 3
"""So many queues that lack a copy are told of one by one; more are one line."""

CELERY = re.compile(r"^celery_delayed_\d+$|\.celery\.pidbox$|^celeryev\.")


@dataclass(frozen=True)
class Broker:
    """One host's RabbitMQ; `critical` says which queues keep it from being stopped. `error`: no answer.

    `unknown`: it answers, but why it does not tell its queues.
    """

    host: str
    running: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    partitions: Mapping[str, Any] | None = None
    critical: str | None = None
    unknown: str | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "broker", **vars(self)}


@dataclass(frozen=True)
class Load:
    """What lies in a queue: `messages`, of which `unacknowledged` are in work."""

    vhost: str
    name: str
    messages: int
    unacknowledged: int
    consumers: int

    @property
    def full_name(self) -> str:
        """Its name, with its virtual host unless that is `/`."""
        return self.name if self.vhost == "/" else f"{self.vhost}/{self.name}"

    @property
    def dead(self) -> bool:
        """Whether it keeps what no worker could handle."""
        return DEAD.search(self.name) is not None

    @property
    def of_celery(self) -> bool:
        """Whether Celery made it for itself: jobs that wait for their time, orders to workers."""
        return CELERY.search(self.name) is not None

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "queue", **vars(self), "dead": self.dead}


@dataclass(frozen=True)
class Queue(Load):
    """A queue as the cluster has it. `online` of its copies run; `leader`: the host that leads it.

    One that nobody leads has no leader, and nobody knows what lies in it.
    """

    kind: str
    leader: str
    online: int


@dataclass(frozen=True)
class View:
    """All brokers, and all queues that they know of."""

    brokers: tuple[Broker, ...]
    queues: tuple[Queue, ...]

    @property
    def troubles(self) -> list[str]:
        """What somebody on call should see, each once."""
        found: list[str] = []
        for broker in self.brokers:
            found += _troubles(broker, len(self.brokers))
        found += self._lacking()
        for queue in self.queues:
            if queue.dead and queue.messages:
                found.append(f"{queue.messages} dead letters in {queue.name}")
        return list(dict.fromkeys(found))

    def _lacking(self) -> list[str]:
        """Of which queues not all copies run. Who does not tell its queues may have the copy."""
        if any(broker.unknown for broker in self.brokers):
            return []
        wanted = min(COPIES, len(self.brokers))
        lack = [queue for queue in self.queues if 0 < queue.online < wanted]
        if len(lack) > EACH:
            return [
                f"{len(lack)} queues have fewer than {wanted} copies up, such as {lack[0].full_name}"
            ]
        return [f"{queue.full_name} has not all {wanted} copies up" for queue in lack]


def _troubles(broker: Broker, brokers: int) -> list[str]:
    """What is wrong with one of so many brokers, by what it says itself."""
    if broker.error:
        return [f"{broker.host}: {broker.error}"]
    found = [f"{broker.host}: {broker.unknown}"] if broker.unknown else []
    if len(broker.members) < brokers:
        found.append(f"{broker.host} knows {len(broker.members)} of the {brokers} brokers")
    away = sorted(set(broker.members) - set(broker.running))
    found += [f"{node} does not run" for node in away]
    found += [f"alarm: {alarm}" for alarm in broker.alarms]
    if broker.partitions:
        found.append(f"{broker.host} sees a partition")
    if broker.critical and brokers > 2:  # of one or two none may ever stop
        found.append(f"{broker.host} may not stop: queues depend on it")
    return found


def loads(fleet: Fleet, hosts: Iterable[str]) -> tuple[list[Load], str]:
    """What lies in all queues, quickly, and why it may not be all of them (nothing if it is)."""

    def ask(host: str) -> Answer:
        return fleet.call(host, "broker", {"action": "queues"}, deadline=DEADLINE)

    found: list[Load] = []
    silent: list[str] = []
    for host, outcome in fleet.each(list(hosts), ask, deadline=DEADLINE).items():
        if outcome.value is None:
            silent.append(f"{host}: {outcome.error.message if outcome.error else 'no answer'}")
        else:
            found += [Load(**_load(row)) for row in outcome.value["queues"] if row["leads"]]
    return sorted(found, key=lambda load: (load.vhost, load.name)), "; ".join(silent)


def _load(row: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: row[field.name] for field in fields(Load)}


def collect(fleet: Fleet, hosts: Iterable[str]) -> View:
    """Asks all brokers at once; never raises for one that does not answer."""
    names = list(hosts)
    if not names:
        raise BacklineError("the inventory has no group broker", state="nothing was changed")

    def ask(host: str) -> Answer:
        return fleet.call(host, "broker", {"action": "status"}, deadline=DEADLINE)

    return view_of(fleet.each(names, ask, deadline=DEADLINE))


def view_of(outcomes: Mapping[str, Outcome[Answer]]) -> View:
    """One view from what each broker said of itself, and of the queues that it has."""
    brokers = tuple(_broker(host, outcome) for host, outcome in outcomes.items())
    told: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for host, outcome in outcomes.items():
        for row in outcome.value["queues"] if outcome.value is not None else ():
            told.setdefault((row["vhost"], row["name"]), {})[host] = row
    return View(brokers, tuple(_queue(told[key]) for key in sorted(told)))


def _broker(host: str, outcome: Outcome[Answer]) -> Broker:
    answer = outcome.value
    if answer is None:
        return Broker(host, error=outcome.error.message if outcome.error else "no answer")
    return Broker(
        host=host,
        running=tuple(answer["running"]),
        members=tuple(answer["members"]),
        alarms=tuple(answer["alarms"]),
        partitions=answer["partitions"],
        critical=answer["critical"],
        unknown=answer["unknown"],
    )


def _queue(told: Mapping[str, Mapping[str, Any]]) -> Queue:
    """From what each host says of it."""
    leader = next((host for host, row in told.items() if row["leads"]), "")
    online = sum(row["copy"] for row in told.values())
    row = told[leader] if leader else next(iter(told.values()))
    return Queue(**_load(row), kind="quorum" if online else "classic", leader=leader, online=online)
