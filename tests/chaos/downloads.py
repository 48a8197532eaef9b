"""Listeners who download slowly, for minutes, and compare every byte that they get."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from dataclasses import dataclass

from backline.lab.listener import Listener

PIECE = 16 * 1024
TIMEOUT = 30.0


@dataclass
class Download:
    """One range of a song: where it began, how far it came, and what went wrong."""

    start: int
    wanted: int
    got: int = 0
    problem: str = ""
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        return not self.problem and self.got == self.wanted


class Downloads:
    """`count` range requests for one song through the edge, each read at `rate` bytes a second.

    `content` is what the song is; each asks for `length` bytes, at a place of its own. `finish()`
    lets them read as fast as they can, waits for them, and returns them.
    """

    def __init__(
        self,
        listener: Listener,
        path: str,
        content: bytes,
        *,
        count: int,
        length: int,
        rate: float,
    ) -> None:
        self.listener, self.path, self.content, self.rate = listener, path, content, rate
        step = (len(content) - length) // count
        self.downloads = [Download(start=n * step, wanted=length) for n in range(count)]
        self._hurry = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(download,), daemon=True)
            for download in self.downloads
        ]

    def start(self) -> Downloads:
        for thread in self._threads:
            thread.start()
        return self

    def running(self) -> int:
        """How many are still reading, without a fault so far."""
        pairs = zip(self._threads, self.downloads, strict=True)
        return sum(thread.is_alive() and not download.problem for thread, download in pairs)

    def finish(self, limit: float = 300.0) -> list[Download]:
        self._hurry.set()
        deadline = time.monotonic() + limit
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self.downloads

    def _run(self, download: Download) -> None:
        began = time.monotonic()
        try:
            self._read(download)
        except (OSError, http.client.HTTPException) as error:
            download.problem = f"{type(error).__name__}: {error}"
        download.seconds = time.monotonic() - began

    def _read(self, download: Download) -> None:
        url = urllib.parse.urlsplit(self.listener.base)
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port or 443, timeout=TIMEOUT, context=self.listener.context
        )
        first = download.start
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.listener.jar)
        headers = {"Cookie": cookies, "Range": f"bytes={first}-{first + download.wanted - 1}"}
        connection.request("GET", self.path, headers=headers)
        answer = connection.getresponse()
        if answer.status != 206:
            download.problem = f"answered {answer.status}"
            return
        began = time.monotonic()
        while piece := answer.read(PIECE):
            at = download.start + download.got
            if piece != self.content[at : at + len(piece)]:
                download.problem = f"wrong bytes at {at}"
                return
            download.got += len(piece)
            ahead = download.got / self.rate - (time.monotonic() - began)
            if ahead > 0 and self._hurry.wait(ahead):
                began = float("-inf")
        connection.close()
