"""Writes rows as an application does, and prints one line of JSON for each that was acknowledged.

writer.py RUN CLIENTS RETRIES PACE

On a host that runs the application, with its environment and in its virtual environment: through the
host's database proxy, by TLS, as the application's user. Each of CLIENTS writes a row, waits PACE seconds,
and takes a new connection after a minute, as the application does (CONN_MAX_AGE). When a try fails it
closes the connection; RETRIES times it tries the same row again, a second later, on another one. Ends
when its standard input does.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time

import psycopg

AGAIN_S = 1.0
LIFE_S = 60.0  # of a connection
LIMIT_S = 2 * 3600  # should nobody ever tell it to end
OVER = threading.Event()
PRINT = threading.Lock()
# Somebody cancelled the wait for a standby: what then looks like an acknowledged commit is none.
UNSURE = "synchronous replication"
# A row that is there already, from a try whose answer got lost, is written again: to do nothing would be
# acknowledged at once, whether or not a standby has it.
INSERT = "INSERT INTO fault_rows (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET id = excluded.id"


class Doubtful(Exception):
    """The commit was acknowledged before a standby had it."""


def tell(**entry: object) -> None:
    with PRINT:
        print(json.dumps(entry), flush=True)


def connect() -> psycopg.Connection:
    """As the application connects; simple queries, so that the answer comes after the commit."""
    known = os.environ
    return psycopg.connect(
        host=known["JUKEBOX_DATABASE_HOSTS"],
        hostaddr=known["JUKEBOX_DATABASE_HOSTADDR"],
        port=known["JUKEBOX_DATABASE_PORT"],
        dbname=known["JUKEBOX_DATABASE_NAME"],
        user=known["JUKEBOX_DATABASE_USER"],
        password=known["JUKEBOX_DATABASE_PASSWORD"],
        sslmode=known["JUKEBOX_DATABASE_SSLMODE"],
        sslrootcert=known["JUKEBOX_DATABASE_SSLROOTCERT"],
        connect_timeout=2,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
        prepare_threshold=None,
    )


class Client:
    """One connection at a time, one row after the other."""

    def __init__(self, run: str, name: str, retries: int, pace: float) -> None:
        self.run, self.name, self.retries, self.pace = run, name, retries, pace
        self.link: psycopg.Connection | None = None
        self.since = 0.0
        self.doubts: list[str] = []

    def work(self) -> None:
        tell(what="client", client=self.name, told=time.monotonic())
        number = 0
        while not OVER.wait(self.pace):
            number += 1
            self.row(f"{self.run}-{self.name}-{number}")

    def row(self, row: str) -> None:
        for attempt in range(self.retries + 1):
            asked = time.monotonic()
            try:
                self.write(row)
            except (psycopg.Error, OSError, Doubtful) as error:
                self.failed(row, asked, error)
                if attempt < self.retries and not OVER.wait(AGAIN_S):
                    continue
                tell(what="gave up", client=self.name, id=row, told=time.monotonic())
                OVER.wait(0.2)
                return
            tell(what="ack", client=self.name, id=row, asked=asked, told=time.monotonic())
            return

    def write(self, row: str) -> None:
        if self.link is not None and time.monotonic() - self.since > LIFE_S:
            self.link.close()
            self.link = None
        if self.link is None:
            self.link, self.since = connect(), time.monotonic()
            self.link.add_notice_handler(
                lambda notice: self.doubts.append(notice.message_primary or "")
            )
        self.doubts.clear()
        self.link.execute(INSERT, [row])
        if any(UNSURE in doubt for doubt in self.doubts):
            raise Doubtful(self.doubts[0])

    def failed(self, row: str, asked: float, error: Exception) -> None:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        told = time.monotonic()
        tell(what="error", client=self.name, id=row, asked=asked, told=told, why=why)
        if self.link is not None:
            self.link.close()
            self.link = None


def main() -> None:
    run, clients, retries, pace = sys.argv[1:5]
    now, host = time.monotonic(), os.uname().nodename
    tell(what="begin", told=now, wall=time.time(), host=host, retries=int(retries))
    threads = [
        threading.Thread(
            target=Client(run, f"{host}.{number}", int(retries), float(pace)).work, daemon=True
        )
        for number in range(int(clients))
    ]
    for thread in threads:
        thread.start()
    select.select([sys.stdin], [], [], LIMIT_S)
    OVER.set()
    for thread in threads:
        thread.join(40)
    tell(what="end", told=time.monotonic())
    os._exit(0)


if __name__ == "__main__":
    main()
