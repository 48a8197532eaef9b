"""This host's part of the database and of the broker, told quickly: `facts` has no time for more.

The verbs `database` and `broker` look closely, and take seconds for it.
"""

from __future__ import annotations

import re

from . import cluster
from .errors import HostctlError
from .host import Host

RABBITMQ = "/etc/rabbitmq/rabbitmq.conf"
SETTING = re.compile(r"^\s*prometheus\.tcp\.(ip|port)\s*=\s*(\S+)", re.M)
SAMPLE = re.compile(
    r"^rabbitmq_queue_(messages_ready|messages_unacked|consumers)(?:\{\S*\})? (\S+)", re.M
)
WITHIN = 2.0


def database(host: Host) -> dict[str, object] | None:
    """{role, state, lag, timeline, leader, paused, trouble} as Patroni here says; None without one.

    `lag` is in bytes, null for not known. Patroni that does not answer is the `trouble`.
    """
    try:
        settings = cluster.load(host)
    except HostctlError as error:
        return None if error.code == "no_database" else {"trouble": error.message}
    try:
        status, found = cluster.Patroni(host, settings).get(settings.name, "/cluster", WITHIN)
    except OSError as error:
        return {"trouble": f"Patroni does not answer: {error or type(error).__name__}"}
    if status != 200 or not isinstance(found.get("members"), list):
        return {"trouble": f"Patroni answers with status {status}"}
    seen = cluster.parse(found)
    own, leader = seen.member(settings.name) or {}, seen.leader
    lag, timeline = own.get("lag"), own.get("timeline")
    return {
        "role": str(own.get("role", "missing")),
        "state": str(own.get("state", "missing")),
        "lag": lag if isinstance(lag, int) else None,
        "timeline": timeline if isinstance(timeline, int) else None,
        "leader": leader["name"] if leader else None,
        "paused": seen.paused,
        "trouble": None,
    }


def broker(host: Host) -> dict[str, object] | None:
    """{ready, unacknowledged, consumers, trouble} of the queues whose leader is this node.

    From RabbitMQ's metrics, which take a few milliseconds; its own programs take seconds. The sums
    over all brokers are those of the cluster. None where there is no broker, or no metrics.
    """
    try:
        found = dict(SETTING.findall(host.path(RABBITMQ).read_text()))
    except FileNotFoundError:
        return None
    if set(found) != {"ip", "port"}:
        return None
    try:
        sums = {name: int(float(value)) for name, value in SAMPLE.findall(_metrics(found))}
    except (OSError, ValueError) as error:
        return {"trouble": f"RabbitMQ does not answer: {error or type(error).__name__}"}
    return {
        "ready": sums.get("messages_ready", 0),
        "unacknowledged": sums.get("messages_unacked", 0),
        "consumers": sums.get("consumers", 0),
        "trouble": None,
    }


def _metrics(found: dict[str, str]) -> str:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(found["ip"], int(found["port"]), timeout=WITHIN)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return answer.read(4 * 1024 * 1024).decode("utf-8", "replace")
    except HTTPException as error:
        raise OSError(f"not HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
