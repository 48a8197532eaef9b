"""Jobs for the brokers, as the application publishes and does them, and what became of them.

traffic.py fill QUEUE NUMBER        publishes so many, each confirmed
traffic.py run QUEUE REPORT         publishes and consumes until SIGTERM, then writes a report (JSON):
                                    confirmed, lost (confirmed and never consumed), gap (the longest
                                    time without a job done, in seconds), refused (publishes that failed)
"""

from __future__ import annotations

import itertools
import json
import signal
import ssl
import sys
import threading
import time
from pathlib import Path

import pika

HOSTS = ("mol-broker1", "mol-broker2", "mol-broker3")
CONTEXT = ssl.create_default_context(cafile="/etc/backline/pki/ca.pem")
WHO = pika.PlainCredentials("jukebox", "a song")
PERSISTENT = pika.BasicProperties(delivery_mode=2)
LAST_JOBS_S = 30


def connect() -> pika.BlockingConnection:
    """To any of them that answers: the name in the certificate is the service's."""
    for host in HOSTS:
        try:
            return pika.BlockingConnection(
                pika.ConnectionParameters(
                    host, 5671, "music", WHO, heartbeat=6, socket_timeout=3, stack_timeout=5,
                    blocked_connection_timeout=10, ssl_options=pika.SSLOptions(CONTEXT, "broker"),
                )
            )  # fmt: skip
        except (pika.exceptions.AMQPError, OSError):
            continue
    raise ConnectionError("no broker answers")


def channel_of(
    link: pika.BlockingConnection, queue: str
) -> pika.adapters.blocking_connection.BlockingChannel:
    channel = link.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    return channel


def fill(queue: str, number: int) -> None:
    with connect() as link:
        channel = channel_of(link, queue)
        for job in range(number):
            channel.basic_publish("", queue, str(job).encode(), PERSISTENT, mandatory=True)


class Traffic:
    """One publisher and one consumer, each with a connection of its own that it makes anew."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.confirmed: list[int] = []
        self.done: set[int] = set()
        self.times: list[float] = [time.monotonic()]
        self.refused = 0
        self.publishing = self.consuming = True

    def publish(self) -> None:
        job = 0
        while self.publishing:
            try:
                with connect() as link:
                    channel = channel_of(link, self.queue)
                    while self.publishing:
                        channel.basic_publish(
                            "", self.queue, str(job).encode(), PERSISTENT, mandatory=True
                        )
                        self.confirmed.append(job)
                        job += 1
                        time.sleep(0.005)
            except (pika.exceptions.AMQPError, OSError):
                # It may have arrived or not: nobody was told that it did.
                self.refused += 1
                job += 1
                time.sleep(0.2)

    def consume(self) -> None:
        while self.consuming:
            try:
                with connect() as link:
                    channel = channel_of(link, self.queue)
                    channel.basic_qos(prefetch_count=20)
                    for method, _, body in channel.consume(self.queue, inactivity_timeout=0.5):
                        if method is not None:
                            channel.basic_ack(method.delivery_tag)
                            self.done.add(int(body))
                            self.times.append(time.monotonic())
                        if not self.consuming:
                            break
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(0.2)

    def report(self) -> dict[str, float]:
        gaps = [after - before for before, after in itertools.pairwise(self.times)]
        return {
            "confirmed": len(self.confirmed),
            "lost": len(set(self.confirmed) - self.done),
            "gap": round(max(gaps, default=0), 1),
            "refused": self.refused,
        }


def run(queue: str, report: Path) -> None:
    traffic, over = Traffic(queue), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    threads = [threading.Thread(target=work) for work in (traffic.publish, traffic.consume)]
    for thread in threads:
        thread.start()
    over.wait()
    traffic.publishing = False
    threads[0].join()
    until = time.monotonic() + LAST_JOBS_S
    while set(traffic.confirmed) - traffic.done and time.monotonic() < until:
        time.sleep(0.2)
    traffic.consuming = False
    threads[1].join()
    report.write_text(json.dumps(traffic.report()))


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill(sys.argv[2], int(sys.argv[3]))
    else:
        run(sys.argv[2], Path(sys.argv[3]))
