"""`hostctl broker`: what this host's RabbitMQ says of itself and of its cluster. Changes nothing."""

from __future__ import annotations

import json
from typing import Any

from . import tiers
from .errors import HostctlError
from .host import Host
from .names import Request

ASK_WITHIN = 20.0
CRITICAL = "check_if_node_is_quorum_critical"


def broker(host: Host, request: Request) -> dict[str, object]:
    """The verb `broker`. `status` returns {members, running, alarms, partitions, critical, queues, unknown}.

    `critical` says why this node may not stop, or is None. `queues` are those that this node leads or
    keeps a copy of, see `tiers.queues`; `unknown` says why there are none, or is None. They come from
    RabbitMQ's metrics: its own program asks the other members for each queue, and stands still for
    seconds per queue when one of them is cut off. The action `queues` returns them alone.
    Raises `UsageError`, or `HostctlError` (no_broker, broker_silent).
    """
    from concurrent.futures import ThreadPoolExecutor

    if request.choice("action", ("status", "queues")) == "queues":
        return {"queues": tiers.queues(host)}
    if not host.path("/etc/rabbitmq/rabbitmq.conf").is_file():
        raise HostctlError("no_broker", "RabbitMQ is not on this host", "ask the group broker")
    with ThreadPoolExecutor(2) as programs:  # each takes a second or two to start
        critical = programs.submit(_critical, host)
        seen = programs.submit(_json, host, "rabbitmqctl", "cluster_status").result()
        members, running = _names(seen.get("disk_nodes")), _names(seen.get("running_nodes"))
        queues, unknown = _queues(host)
        return {
            "members": sorted({*members, *_names(seen.get("ram_nodes"))}),
            "running": sorted(running),
            "alarms": alarms(seen.get("alarms")),
            "partitions": seen.get("partitions") or {},
            "critical": critical.result(),
            "queues": queues,
            "unknown": unknown,
        }


def alarms(found: object) -> list[str]:
    """`memory on rabbit@broker1`, for each alarm in force."""
    entries = found if isinstance(found, list) else []
    return sorted(_alarm(entry) for entry in entries)


def _alarm(entry: object) -> str:
    if isinstance(entry, dict):
        what = entry.get("resource") or entry.get("alarm") or entry.get("type")
        return f"{what} on {entry.get('node')}" if what else json.dumps(entry, sort_keys=True)
    return str(entry)


def _names(found: object) -> list[str]:
    """RabbitMQ lists nodes by name, or as objects with one."""
    entries = found if isinstance(found, list) else []
    return [str(entry["name"]) if isinstance(entry, dict) else str(entry) for entry in entries]


def _queues(host: Host) -> tuple[list[dict[str, object]], str | None]:
    try:
        return tiers.queues(host), None
    except HostctlError as error:
        return [], error.message


def _critical(host: Host) -> str | None:
    ended = host.run(["rabbitmq-queues", "--quiet", CRITICAL], timeout=ASK_WITHIN)
    if ended.status == 0:
        return None
    return " ".join((ended.err or ended.out).split())[:500] or "it does not answer"


def _json(host: Host, program: str, *words: str) -> Any:
    ended = host.run([program, "--quiet", "--formatter=json", *words], timeout=ASK_WITHIN)
    try:
        if ended.status == 0:
            return json.loads(ended.out)
        said = " ".join((ended.err or ended.out).split())[:300]
    except ValueError:
        said = "its answer is no JSON"
    raise HostctlError(
        "broker_silent",
        f"RabbitMQ does not answer `{program} {words[0]}`: {said or 'no answer in time'}",
        tiers.LOOK_AT_RABBITMQ,
    )
