"""How far a run over many hosts has come, on stderr, once it takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Self, TextIO

from backline import wording

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
        tty = self.file.isatty()
        wait = FIRST_SECONDS
        while not self._over.wait(wait):
            with self.above, suppress(OSError, ValueError):
                if self._over.is_set():
                    return
                self.file.write(f"\r\x1b[K{self._line()}" if tty else f"  {self._line()}\n")
                self.file.flush()
                self._shown = tty
            wait = REFRESH_SECONDS if tty else REPEAT_SECONDS

    def _line(self) -> str:
        from backline.selection import fold

        names = fold(list(self._left)) if self._left else "nobody"
        if len(names) > NAMED:
            names = f"{names[:NAMED]}…"
        done = self._total - len(self._left)
        seconds = time.monotonic() - self._began
        return f"{done} of {wording.hosts(self._total)} done, {seconds:.0f} s, waiting for {names}"
