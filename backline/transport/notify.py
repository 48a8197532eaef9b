"""Tells a webhook what a run does; never holds a run up, and never shows the address (a secret)."""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, Self

SECONDS = 5.0
TRIES = 3
LAST_SECONDS = 8.0


class Notifier:
    """Posts JSON objects to `address`, one after the other, from a thread of its own.

    A context manager; at its end it waits at most 8 s for what is still to be sent. `trouble` says
    what could not be delivered, and why.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._queue: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self.trouble = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._queue.put(None)
        self._thread.join(LAST_SECONDS)
        if self._thread.is_alive():
            self.trouble = self.trouble or f"no answer within {LAST_SECONDS:.0f} s"

    def tell(self, content: Mapping[str, Any]) -> None:
        """Sends an object, later; returns at once."""
        self._queue.put(content)

    def _run(self) -> None:
        while (content := self._queue.get()) is not None:
            data = json.dumps(content, default=str).encode()
            for attempt in range(TRIES):
                problem = self._post(data)
                if not problem:
                    break
                time.sleep(attempt)
            else:
                self.trouble = problem

    def _post(self, data: bytes) -> str:
        headers = {"Content-Type": "application/json", "User-Agent": "backline"}
        try:
            request = urllib.request.Request(self._address, data, headers, method="POST")
            with urllib.request.urlopen(request, timeout=SECONDS):
                return ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            # Not the error's own words: they may hold the address.
            return f"{type(error).__name__} {getattr(error, 'code', '')}".strip()
