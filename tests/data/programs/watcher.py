"""Asks database hosts five times a second whether they take a write, and prints each answer as JSON.

watcher.py RUN HOST              beside the server: by its socket, as its superuser
watcher.py RUN HOST=ADDRESS ...  over the network: PostgreSQL's own port, as the application's user

Never the cluster's own view: each host is asked by itself. The answer is `yes` when it acknowledged the
commit of a row. A question has no deadline, and is never cancelled: cancelling makes PostgreSQL
acknowledge what no standby has. So a server that waits for a standby leaves a question open. Nothing but
psycopg. Ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time

import psycopg

EVERY_S = 0.2
LIMIT_S = 2 * 3600  # should nobody ever tell it to end
PRINT = threading.Lock()
UNSURE = "synchronous replication"
INSERT = "INSERT INTO fault_probes (id) VALUES (%s)"


def tell(entry: dict[str, object]) -> None:
    with PRINT:
        try:
            print(json.dumps(entry), flush=True)
        except OSError:
            os._exit(1)  # nobody reads any more


class Watch:
    """The questions to one host, one after the other."""

    def __init__(self, run: str, host: str, address: str) -> None:
        self.run, self.host, self.address = run, host, address
        self.via = "network" if address else "beside"
        self.link: psycopg.Connection | None = None
        self.doubts: list[str] = []
        self.open: tuple[str, float] | None = None

    def work(self) -> None:
        while True:
            asked = time.monotonic()
            # Unique: a watcher that was restarted counts from its own beginning.
            probe = f"{self.run}-{self.via}-{self.host}-{asked:.6f}"
            self.open = (probe, asked)
            try:
                answer = self.ask(probe)
            except (psycopg.Error, OSError) as error:
                answer = "no: " + " ".join(f"{type(error).__name__}: {error}".split())[:120]
                self.close()
            told = time.monotonic()
            self.open = None
            self.tell(probe, asked, told, answer)
            time.sleep(max(0.0, asked + EVERY_S - time.monotonic()))

    def tell(self, probe: str, asked: float, told: float | None, answer: str) -> None:
        known = {"via": self.via, "host": self.host, "asked": asked, "told": told}
        tell({**known, "answer": answer, "id": probe})

    def ask(self, probe: str) -> str:
        if self.link is None:
            self.link = self.connect()
            self.link.add_notice_handler(
                lambda notice: self.doubts.append(notice.message_primary or "")
            )
        found = self.link.execute("SELECT pg_is_in_recovery()").fetchone()
        if found is None or found[0]:
            return "no: in recovery"
        self.doubts.clear()
        self.link.execute(INSERT, [probe])
        if any(UNSURE in doubt for doubt in self.doubts):
            return f"no: {self.doubts[0]}"
        return "yes"

    def connect(self) -> psycopg.Connection:
        known = {
            "autocommit": True,
            "cursor_factory": psycopg.ClientCursor,
            "prepare_threshold": None,
        }
        if not self.address:
            return psycopg.connect(
                host="/var/run/postgresql", user="postgres", dbname="jukebox", **known
            )
        return psycopg.connect(
            host=os.environ["JUKEBOX_DATABASE_HOSTS"],
            hostaddr=self.address,
            port=5432,
            dbname=os.environ["JUKEBOX_DATABASE_NAME"],
            user=os.environ["JUKEBOX_DATABASE_USER"],
            password=os.environ["JUKEBOX_DATABASE_PASSWORD"],
            sslmode=os.environ["JUKEBOX_DATABASE_SSLMODE"],
            sslrootcert=os.environ["JUKEBOX_DATABASE_SSLROOTCERT"],
            connect_timeout=2,
            keepalives_idle=1,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=3_000,
            **known,
        )

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def last(self) -> None:
        """What is still open is told of as such."""
        if self.open is not None:
            self.tell(self.open[0], self.open[1], None, "waiting")


def main() -> None:
    run, hosts = sys.argv[1], [word.partition("=") for word in sys.argv[2:]]
    watches = [Watch(run, name, address) for name, _, address in hosts]
    for watch in watches:
        threading.Thread(target=watch.work, daemon=True).start()
    select.select([sys.stdin], [], [], LIMIT_S)
    for watch in watches:
        watch.last()
    os._exit(0)


if __name__ == "__main__":
    main()
