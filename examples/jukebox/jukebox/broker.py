"""Connections to RabbitMQ for whoever must not wait: web requests and health checks.

A worker may wait for a broker for hours; a listener may not. Every step is bounded here: the TCP
connection, each read and write, and the number of tries. A broker that is frozen, not only one
that is gone, costs a request seconds, never minutes.
"""

from __future__ import annotations

from kombu import Connection

from jukebox.celery import app

CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0

#: One more try, at once, on the next host: it covers a connection that went stale while idle.
RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


def connection() -> Connection:
    """A connection, not yet open, whose every operation ends within seconds."""
    return app.connection(
        connect_timeout=CONNECT_TIMEOUT,
        transport_options={
            "confirm_publish": True,
            "read_timeout": ANSWER_TIMEOUT,
            "write_timeout": ANSWER_TIMEOUT,
            "connect_retries_timeout": ANSWER_TIMEOUT,
            **RETRY_POLICY,
        },
    )


def ping() -> None:
    """Opens a connection of its own and closes it. Raises what kombu raises."""
    link = connection()
    hosts = max(1, len(link.alt))
    try:
        link.ensure_connection(**RETRY_POLICY | {"max_retries": hosts}, timeout=ANSWER_TIMEOUT)
    finally:
        link.release()
