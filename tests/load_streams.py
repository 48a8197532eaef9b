"""Listeners who hear songs slowly, one after the other, and check every byte that they get.

A thread and a blocking socket with a small buffer each: what a listener has not read yet is then
still with the fleet, not in this machine's memory. The edge's kernel alone holds some MB for a slow
listener: only a range that is much longer keeps the streaming hosts busy.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PIECE = 8 * 1024
BUFFER = 16 * 1024
TIMEOUT = 30.0


@dataclass(frozen=True)
class Song:
    """What is asked for, and its whole content, fetched before."""

    path: str
    content: bytes


class Streams:
    """`count` listeners at once, each range lasting about `seconds`, until `finish`.

    A range never starts with the first byte: that would be a play.
    """

    def __init__(self, config: dict[str, Any], context: ssl.SSLContext | None) -> None:
        wanted = config["streams"]
        self._base, self._context = urlsplit(config["base"]), context
        host, _, port = (config["connect"] or self._base.netloc).rpartition(":")
        self._address = host, int(port)
        self._headers = {"Host": self._base.netloc, "Cookie": config["cookies"]}
        self._song = Song(wanted["path"], Path(wanted["content"]).read_bytes())
        self._seconds = wanted["seconds"]
        self._length = wanted.get("length") or len(self._song.content)
        self._lock, self._hurry = threading.Lock(), threading.Event()
        self.whole, self.bytes, self.failures = 0, 0, Counter[str]()
        self._threads = [
            threading.Thread(target=self._listen, args=(number,), daemon=True)
            for number in range(wanted["count"])
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, limit: float) -> None:
        """Lets them read the rest as fast as they can; who is not done in `limit` s is a failure."""
        self._hurry.set()
        deadline = time.monotonic() + limit
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = sum(thread.is_alive() for thread in self._threads)
        if stuck:
            self.failures["stream: not done at the end"] += stuck

    def report(self) -> dict[str, Any]:
        """How many ranges came whole, how many bytes in all, and what went wrong how often."""
        with self._lock:
            return {
                "whole": self.whole,
                "bytes": self.bytes,
                "failed": sum(self.failures.values()),
                "failures": dict(self.failures.most_common()),
            }

    def _listen(self, number: int) -> None:
        turn = number
        while True:
            problem = self._hear(4096 + 1009 * turn % (len(self._song.content) // 2))
            with self._lock:
                if problem:
                    self.failures[f"stream: {problem}"] += 1
                else:
                    self.whole += 1
            turn += len(self._threads)
            if self._hurry.wait(1.0 if problem else 0.0):
                return

    def _hear(self, first: int) -> str | None:
        """What was wrong with one range that begins at `first`."""
        wanted = memoryview(self._song.content)[first : first + self._length]
        headers = {**self._headers, "Range": f"bytes={first}-{first + len(wanted) - 1}"}
        try:
            with closing(self._connection()) as connection:
                connection.request("GET", self._song.path, headers=headers)
                answer = connection.getresponse()
                if answer.status != 206:
                    return str(answer.status)
                digest, got = self._read(answer, len(wanted) / self._seconds)
        except TimeoutError:
            return "timeout"
        except ConnectionError:
            return "reset"
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"[:100]
        if got != len(wanted):
            return "truncated"
        return None if digest == hashlib.sha256(wanted).digest() else "wrong bytes"

    def _read(self, answer: http.client.HTTPResponse, rate: float) -> tuple[bytes, int]:
        digest, got, began = hashlib.sha256(), 0, time.monotonic()
        while piece := answer.read(PIECE):
            digest.update(piece)
            got += len(piece)
            with self._lock:
                self.bytes += len(piece)
            ahead = got / rate - (time.monotonic() - began)
            if ahead > 0:
                self._hurry.wait(ahead)
        return digest.digest(), got

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT)
        plain = socket.socket()
        try:
            plain.settimeout(TIMEOUT)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            plain.connect(self._address)
            connection.sock = plain
            if self._context:
                name = self._base.hostname
                connection.sock = self._context.wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise
        return connection
