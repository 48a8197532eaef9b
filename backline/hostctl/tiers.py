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
PER_QUEUE = re.compile(
    r"^rabbitmq_detailed_(queue_messages|queue_messages_unacked|queue_consumers|raft_term_total)"
    r"\{(\S.*)\} (\S+)$",
    re.M,
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = re.compile(r"\\(.)")
EVERY_QUEUE = (
    "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count&family=ra_metrics"
)
LOOK_AT_RABBITMQ = "systemctl status rabbitmq-server; journalctl -u rabbitmq-server"
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
    found = _exporter(host)
    if not found:
        return None
    try:
        text = _metrics(found, "/metrics")
        sums = {name: int(float(value)) for name, value in SAMPLE.findall(text)}
    except (OSError, ValueError) as error:
        return {"trouble": f"RabbitMQ does not answer: {error or type(error).__name__}"}
    return {
        "ready": sums.get("messages_ready", 0),
        "unacknowledged": sums.get("messages_unacked", 0),
        "consumers": sums.get("consumers", 0),
        "trouble": None,
    }


def queues(host: Host) -> list[dict[str, object]]:
    """{vhost, name, leads, copy, messages, unacknowledged, consumers} of each queue of this node.

    `leads`: it is this node that counts what lies in it; all brokers' answers together are all queues.
    `copy`: a member of the quorum queue runs here. Raises `HostctlError` (no_broker, broker_silent).
    """
    found = _exporter(host)
    if not found:
        raise HostctlError("no_broker", "no RabbitMQ with metrics here", "ask the group broker")
    try:
        text = _metrics(found, EVERY_QUEUE)
    except OSError as error:
        raise HostctlError(
            "broker_silent",
            f"RabbitMQ does not tell its metrics: {error or type(error).__name__}",
            LOOK_AT_RABBITMQ,
        ) from None
    numbers: dict[tuple[str, str], dict[str, int]] = {}
    for kind, labels, value in PER_QUEUE.findall(text):
        label = {name: ESCAPED.sub(_unescaped, said) for name, said in LABEL.findall(labels)}
        numbers.setdefault((label["vhost"], label["queue"]), {})[kind] = int(float(value))
    return [
        {
            "vhost": vhost,
            "name": name,
            "leads": "queue_messages" in of,
            "copy": "raft_term_total" in of,
            "messages": of.get("queue_messages", 0),
            "unacknowledged": of.get("queue_messages_unacked", 0),
            "consumers": of.get("queue_consumers", 0),
        }
        for (vhost, name), of in sorted(numbers.items())
    ]


def _unescaped(found: re.Match[str]) -> str:
    """What Prometheus' text format writes with a backslash."""
    return "\n" if found[1] == "n" else found[1]


def _exporter(host: Host) -> dict[str, str] | None:
    """{ip, port} of RabbitMQ's metrics; None where it has none, or is not there."""
    try:
        found = dict(SETTING.findall(host.path(RABBITMQ).read_text()))
    except FileNotFoundError:
        return None
    return found if set(found) == {"ip", "port"} else None


def _metrics(found: dict[str, str], path: str) -> str:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(found["ip"], int(found["port"]), timeout=WITHIN)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")
        return answer.read(16 * 1024 * 1024).decode("utf-8", "replace")
    except HTTPException as error:
        raise OSError(f"not HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
