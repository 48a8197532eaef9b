"""`hostctl broker`: what this host's RabbitMQ says of itself and of its cluster. Changes nothing."""

from __future__ import annotations

import json
from typing import Any

from . import tiers
from .errors import HostctlError
from .host import Host
from .names import Request

ASK_WITHIN = 20.0
QUEUE = ("name", "type", "messages", "messages_unacknowledged", "consumers", "leader", "online")
CRITICAL = "check_if_node_is_quorum_critical"


def broker(host: Host, request: Request) -> dict[str, object]:
    """The verb `broker`. `status` returns {members, running, alarms, partitions, queues, critical}.

    `critical` says why this node may not stop, or is None. `queues` returns {queues}, as far as they
    are led here: RabbitMQ's metrics take milliseconds, its own programs a second or two each.
    Raises `UsageError`, or `HostctlError` (no_broker, broker_silent).
    """
    if request.choice("action", ("status", "queues")) == "queues":
        return {"queues": tiers.queues(host)}
    if not host.path("/etc/rabbitmq/rabbitmq.conf").is_file():
        raise HostctlError("no_broker", "RabbitMQ is not on this host", "ask the group broker")
    seen = _json(host, "rabbitmqctl", "cluster_status")
    members, running = _names(seen.get("disk_nodes")), _names(seen.get("running_nodes"))
    return {
        "members": sorted({*members, *_names(seen.get("ram_nodes"))}),
        "running": sorted(running),
        "alarms": alarms(seen.get("alarms")),
        "partitions": seen.get("partitions") or {},
        "queues": _queues(host),
        "critical": _critical(host),
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


def _queues(host: Host) -> list[dict[str, Any]]:
    found = []
    for vhost in _json(host, "rabbitmqctl", "list_vhosts"):
        name = str(vhost["name"])
        rows = _json(host, "rabbitmqctl", "list_queues", "--vhost", name, *QUEUE)
        found += [{"vhost": name, **row} for row in rows]
    return found


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
