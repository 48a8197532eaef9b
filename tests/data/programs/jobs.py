"""Publishes jobs with confirms and does them, and prints a line of JSON for each.

jobs.py RUN QUEUE

On a host that runs the application, with its environment and in its virtual environment: over TLS, to
whichever broker of JUKEBOX_BROKER_URL answers. One publisher, one consumer, each with a connection that it
makes anew when it breaks. When its standard input ends it publishes no more, does what is left for up to
30 seconds, and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import ssl
import sys
import threading
import time
from urllib.parse import unquote, urlsplit

import amqp
from amqp.exceptions import AMQPError, MessageNacked

PACE_S, AGAIN_S, LAST_JOBS_S, HEARTBEAT_S = 0.02, 1.0, 30.0, 6
BROKEN = (AMQPError, MessageNacked, OSError)
LIMIT_S = 2 * 3600  # should nobody ever tell it to end
PRINT = threading.Lock()
PUBLISHING, CONSUMING = threading.Event(), threading.Event()


def tell(what: str, **entry: object) -> None:
    with PRINT:
        print(json.dumps({"what": what, "told": time.monotonic(), **entry}), flush=True)


def connect() -> amqp.Connection:
    """To any broker that answers, and proves that it is the one."""
    problem: Exception = OSError("no broker is configured")
    for url in os.environ["JUKEBOX_BROKER_URL"].split(";"):
        parts = urlsplit(url)
        tls = {
            "cert_reqs": ssl.CERT_REQUIRED,
            "ca_certs": os.environ["JUKEBOX_BROKER_CA"],
            "server_hostname": parts.hostname,
        }
        link = amqp.Connection(
            f"{parts.hostname}:{parts.port}",
            userid=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            virtual_host=unquote(parts.path[1:]),
            ssl=tls,
            connect_timeout=3,
            read_timeout=10,
            write_timeout=5,
            heartbeat=HEARTBEAT_S,
            confirm_publish=True,
        )
        try:
            link.connect()
        except BROKEN as error:
            problem = error
            continue
        return link
    raise OSError(f"no broker answers: {problem}")


def opened(queue: str) -> tuple[amqp.Connection, amqp.Channel]:
    link = connect()
    channel = link.channel()
    channel.queue_declare(
        queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
    )
    return link, channel


def close(link: amqp.Connection | None) -> None:
    if link is not None:
        with contextlib.suppress(*BROKEN):
            link.collect()


def publish(run: str, queue: str) -> None:
    """A job that was not confirmed is published once more, a second later; it may then arrive twice."""
    host, number, link = os.uname().nodename, 0, None
    while not PUBLISHING.wait(PACE_S):
        number += 1
        job = f"{run}-{host}-{number}"
        for last in (False, True):
            try:
                if link is None:
                    link, channel = opened(queue)
                message = amqp.Message(job, delivery_mode=2)
                channel.basic_publish(
                    message, routing_key=queue, mandatory=True, confirm_timeout=10
                )
                tell("confirmed", id=job)
                break
            except BROKEN as error:
                # It may have arrived or not: nobody was told that it did.
                tell(
                    "refused",
                    id=job,
                    why=" ".join(f"{type(error).__name__}: {error}".split())[:160],
                )
                close(link)
                link = None
            if last:
                tell("gave up", id=job)
            else:
                PUBLISHING.wait(AGAIN_S)
    close(link)
    tell("published")


def consume(run: str, queue: str) -> None:
    tell("consumes")
    link = None
    while not CONSUMING.is_set():
        try:
            link, channel = opened(queue)

            def done(message: amqp.Message, channel: amqp.Channel = channel) -> None:
                channel.basic_ack(message.delivery_tag)
                body = (
                    message.body if isinstance(message.body, str) else bytes(message.body).decode()
                )
                if body.startswith(f"{run}-"):
                    tell("done", id=body)

            channel.basic_qos(0, 20, False)
            channel.basic_consume(queue, callback=done)
            while not CONSUMING.is_set():
                with contextlib.suppress(TimeoutError):
                    link.drain_events(timeout=1)
                link.heartbeat_tick()
        except BROKEN as error:
            tell("reconnects", why=" ".join(f"{type(error).__name__}: {error}".split())[:160])
            CONSUMING.wait(0.2)
        close(link)
        link = None


def main() -> None:
    run, queue = sys.argv[1:3]
    for work in (publish, consume):
        threading.Thread(target=work, args=(run, queue), daemon=True).start()
    select.select([sys.stdin], [], [], LIMIT_S)
    PUBLISHING.set()
    time.sleep(LAST_JOBS_S)
    CONSUMING.set()
    time.sleep(2)
    tell("end")
    os._exit(0)


if __name__ == "__main__":
    main()
