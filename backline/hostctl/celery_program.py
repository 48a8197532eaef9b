"""What `hostctl jobs` runs with the application's own Python, user and environment.

It is handed over as text, so it imports nothing of hostctl's, and Celery where it is needed alone. One
JSON object on stdin, one on stdout, on a line that is marked: applications may print what they like.
Credentials are in the environment; none is told.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Any, Protocol

CONNECT, ANSWER = 5.0, 20.0
ZONE = timezone.utc  # noqa: UP017 - an application's Python may be older than that name
SHOWN = 500
MARK = "backline: "
ROUND = "backline-requeued"
"""A header: how often a letter was sent round again."""
DEATHS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")

Letter = dict[str, Any]
Request = Mapping[str, Any]


class Box(Protocol):
    """A queue of dead letters. What was taken and not dropped is back when the box is closed."""

    def count(self) -> int:
        """How many there are now."""

    def take(self) -> Any:
        """The next message, or None."""

    def send(self, message: Any, queue: str, headers: Mapping[str, Any]) -> None:
        """Puts it into `queue`; returns when the broker has it for sure, raises otherwise."""

    def drop(self, message: Any) -> None:
        """The broker may forget it here."""


def letter(headers: Mapping[str, Any], properties: Mapping[str, Any], size: int) -> Letter:
    """What a dead letter says of itself, without its arguments: they may be somebody's secrets."""
    deaths = headers.get("x-death") or []
    last: Mapping[str, Any] = deaths[0] if deaths else {}
    return {
        "task": headers.get("task"),
        "id": headers.get("id") or properties.get("correlation_id"),
        "queue": last.get("queue") or headers.get("x-first-death-queue"),
        "why": last.get("reason") or headers.get("x-first-death-reason"),
        "at": seconds(last.get("time")),
        "count": sum(_number(death.get("count")) for death in deaths),
        "requeued": _number(headers.get(ROUND)),
        "retries": _number(headers.get("retries")),
        "origin": headers.get("origin"),
        "expires": headers.get("expires"),
        "size": size,
    }


def seconds(moment: object) -> float | None:
    """Seconds since the epoch of what AMQP calls a timestamp; without a zone it is UTC."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=ZONE)).timestamp()
    return float(moment) if isinstance(moment, (int, float)) else None


def fits(found: Letter, wanted: Request) -> bool:
    """Whether a letter is one of those that were asked for: by id, task (`music.*`), origin."""
    ids, task, queue = wanted.get("ids"), wanted.get("task"), wanted.get("origin")
    if ids and found["id"] not in ids:
        return False
    if task and not fnmatchcase(str(found["task"]), str(task)):
        return False
    return not queue or found["queue"] == queue


def fresh(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers for another round: all tries again, nothing of its deaths.

    RabbitMQ takes a letter that comes by a queue twice for a circle and drops it, by `x-death`.
    """
    kept = {name: value for name, value in headers.items() if not name.startswith(DEATHS)}
    if isinstance(kept.get("retries"), int):
        kept["retries"] = 0
    return {**kept, ROUND: _number(headers.get(ROUND)) + 1}


def held_back(found: Letter, target: str | None, now: float) -> str | None:
    """Why a letter may not be sent round again, or None. A job past its time would vanish there."""
    if not target:
        return "it does not say which queue it comes from"
    if found["expires"] and _moment(found["expires"]) <= now:
        return "its time is over: a worker would drop it"
    return None


def look(box: Box, wanted: Request) -> dict[str, Any]:
    """The letters, oldest first, at most `limit`; nothing is taken from the queue."""
    there, found = box.count(), []
    for _ in range(min(there, int(wanted["limit"]))):
        message = box.take()
        if message is None:
            break
        found.append(_letter(message))
    fitting = [entry for entry in found if fits(entry, wanted)]
    return {"there": there, "seen": len(found), "letters": fitting}


def requeue(box: Box, wanted: Request, now: float, clock: Any = time.monotonic) -> dict[str, Any]:
    """Moves fitting letters back to the queues they come from, at most `most`.

    Each is dropped here when the broker has confirmed it there: whatever dies in between, no letter
    is lost, and at worst one is in both. Ends after `seconds`; then `over` is False. So it is when the
    broker refuses one: `trouble` says why. `held` counts those that stay, of which `kept` has the first.
    """
    end = clock() + float(wanted["seconds"])
    moved: list[Letter] = []
    kept: list[Letter] = []
    over, trouble = True, None
    for _ in range(min(box.count(), int(wanted["limit"]))):
        if len(moved) >= int(wanted["most"]):
            break
        if clock() >= end:
            over = False
            break
        message = box.take()
        if message is None:
            break
        found = _letter(message)
        if not fits(found, wanted):
            continue
        target = wanted.get("to") or found["queue"]
        why = held_back(found, target, now)
        if why:
            kept.append({**found, "kept": why})
            continue
        try:
            box.send(message, str(target), fresh(message.headers or {}))
        except Exception as error:  # what is unsure stays here
            over, trouble = False, f"{target}: {type(error).__name__}: {error}"[:300]
            break
        box.drop(message)
        moved.append({**found, "to": target})
    return {
        "moved": len(moved),
        "letters": moved[:SHOWN],
        "kept": kept[:SHOWN],
        "held": len(kept),
        "over": over,
        "trouble": trouble,
    }


def pools(app: Any, wanted: Request) -> dict[str, Any]:
    """What the named nodes do: {node: {processes, active, reserved}}. Who is silent is not in it."""
    with _connection(app) as link:
        names = list(wanted["nodes"])
        answers = _inspect(app, link, names, wanted).ping() or {}
        alive = [name for name in names if name in answers]
        if not alive:
            return {"nodes": {}}
        inspect = _inspect(app, link, alive, wanted)
        stats, active, reserved = inspect.stats() or {}, inspect.active() or {}, inspect.reserved()
    return {
        "nodes": {
            name: {
                "processes": len((stats.get(name, {}).get("pool") or {}).get("processes") or ()),
                "active": [_job(job) for job in active.get(name) or ()],
                "reserved": [_job(job) for job in (reserved or {}).get(name) or ()],
            }
            for name in alive
        }
    }


def revoke(app: Any, wanted: Request) -> dict[str, Any]:
    """Tells every worker to leave a job undone. `found`: who has it now, {node: [state, job]}.

    With `dry` nobody is told. `confirmed`: the nodes that answered that they heard.
    """
    job = str(wanted["ids"][0])
    with _connection(app) as link:
        seen = _inspect(app, link, None, wanted).query_task(job) or {}
        found = {
            node: [jobs[job][0], _job(jobs[job][1])] for node, jobs in seen.items() if job in jobs
        }
        if wanted.get("dry"):
            return {"found": found, "confirmed": []}
        answers = app.control.revoke(
            job,
            terminate=bool(wanted.get("terminate")),
            signal="SIGTERM",
            connection=link,
            reply=True,
            timeout=float(wanted["patience"]),
        )
    heard = sorted(
        node for answer in answers or () for node, said in answer.items() if "ok" in said
    )
    return {"found": found, "confirmed": heard}


class AmqpBox:
    """Implements Box on a connection of its own, whose publisher waits for confirms."""

    def __init__(self, link: Any, name: str) -> None:
        kombu = importlib.import_module("kombu")
        self.channel = link.channel()
        self.queue = kombu.Queue(name, channel=self.channel, no_declare=True)
        self.producer = kombu.Producer(self.channel, auto_declare=False)

    def count(self) -> int:
        return int(self.queue.queue_declare(passive=True).message_count)

    def take(self) -> Any:
        return self.queue.get(no_ack=False)

    def send(self, message: Any, queue: str, headers: Mapping[str, Any]) -> None:
        known = ("priority", "correlation_id", "reply_to", "type", "app_id", "timestamp")
        extra = {name: message.properties[name] for name in known if name in message.properties}
        self.producer.publish(
            message.body,
            exchange="",
            routing_key=queue,
            mandatory=True,
            delivery_mode=2,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=dict(headers),
            confirm_timeout=ANSWER,
            **extra,
        )

    def drop(self, message: Any) -> None:
        message.ack()


def _letter(message: Any) -> Letter:
    return letter(message.headers or {}, message.properties or {}, len(message.body or ""))


def _job(found: Mapping[str, Any]) -> dict[str, Any]:
    """A job as a worker tells of it, without its arguments."""
    request = found.get("request") or found
    info = request.get("delivery_info") or {}
    return {
        "task": request.get("name") or request.get("type"),
        "id": request.get("id"),
        "since": request.get("time_start"),
        "queue": info.get("routing_key"),
    }


def _inspect(app: Any, link: Any, nodes: list[str] | None, wanted: Request) -> Any:
    """Asks these nodes, and waits no longer than until all of them have answered."""
    more = {"destination": nodes, "limit": len(nodes)} if nodes else {}
    return app.control.inspect(timeout=float(wanted["patience"]), connection=link, **more)


def _connection(app: Any) -> Any:
    options = {"confirm_publish": True, "read_timeout": ANSWER, "write_timeout": ANSWER}
    link = app.connection_for_write(connect_timeout=CONNECT, transport_options=options)
    link.ensure_connection(max_retries=2, interval_start=0, timeout=CONNECT * 2)
    return link


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _moment(text: object) -> float:
    """Celery's `expires`: ISO 8601, UTC without a zone."""
    try:
        return seconds(datetime.fromisoformat(str(text))) or 0.0
    except ValueError:
        return float("inf")


def perform(app: Any, wanted: Request) -> dict[str, Any]:
    """One action on a Celery application."""
    action = wanted["action"]
    if action in ("pools", "revoke"):
        return {"pools": pools, "revoke": revoke}[action](app, wanted)
    with _connection(app) as link:
        box = AmqpBox(link, str(wanted["queue"]))
        return look(box, wanted) if action == "dead" else requeue(box, wanted, time.time())


def main(lines: Iterable[str]) -> None:
    """The request in, the answer out."""
    wanted = json.loads("".join(lines))
    app = importlib.import_module("celery.app.utils").find_app(wanted["celery"])
    answer = perform(app, wanted)
    print(MARK + json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main(sys.stdin)
