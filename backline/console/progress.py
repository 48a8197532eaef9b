"""How far a run over many hosts has come, on stderr, once it takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Self, TextIO

from backline import wording
from backline.console import paint

FIRST_SECONDS = 2.0
REFRESH_SECONDS = 0.5
REPEAT_SECONDS = 15.0
NAMED = 60
"""So many characters for the names of hosts that are waited for."""


class Progress:
    """`12 of 200 hosts done, waiting for stream[3-9]`. On a terminal one line that is rewritten;
    elsewhere a line now and then. Use `above` around whatever else is printed meanwhile."""

    def __init__(
        self, hosts: Iterable[str], file: TextIO | None = None, silent: bool = False
    ) -> None:
        self.file = file or sys.stderr
        self.silent = silent
        self.above = threading.RLock()
        self._left = dict.fromkeys(hosts)
        self._total = len(self._left)
        self._over = threading.Event()
        self._shown = False
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if not self.silent:
            threading.Thread(target=self._beat, name="progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.clear()

    def done(self, host: str) -> None:
        """One host less to wait for."""
        with self.above:
            self._left.pop(host, None)

    def clear(self) -> None:
        """Takes the line off the terminal, so that something else can be printed there."""
        with self.above, suppress(OSError, ValueError):
            if self._shown:
                self.file.write("\r\x1b[K")
                self.file.flush()
                self._shown = False

    def _beat(self) -> None:
        tty = paint.steered(self.file)
        wait = FIRST_SECONDS
        while not self._over.wait(wait):
            with self.above, suppress(OSError, ValueError):
                if self._over.is_set():
                    return
                room = paint.width(self.file) - 1 if tty else None  # the last column may wrap
                line = self._line(room)
                self.file.write(f"\r\x1b[K{line}" if tty else f"  {line}\n")
                self.file.flush()
                self._shown = tty
            wait = REFRESH_SECONDS if tty else REPEAT_SECONDS

    def _line(self, room: int | None) -> str:
        """How far it is, in at most so many characters."""
        from backline.selection import fold

        names = fold(list(self._left)) if self._left else "nobody"
        done = self._total - len(self._left)
        seconds = time.monotonic() - self._began
        head = f"{done} of {wording.hosts(self._total)} done, {seconds:.0f} s, waiting for "
        if room is None:
            return head + _cut(names, NAMED)
        return _cut(head + _cut(names, NAMED), room)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(0, most - 1)]}…"
