"""Tells of a run's events as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from backline import wording
from backline.console.output import console, line
from backline.console.words import DONE, sentence, subject

if TYPE_CHECKING:
    from rich.live import Live

    from backline.rollout.events import Event

QUIET_SECONDS = 2.0
REPEAT_SECONDS = 15.0
REFRESH_SECONDS = 0.25
STYLES = {"warning": "yellow", "failed": "red", DONE: "green", "phase": "bold"}
SILENT = ("begun", "ended")


class Narrator:
    """Tells of a run's events as they come: lines for people, or NDJSON.

    On a terminal a board below the lines shows what is going on (live.Board); elsewhere, whatever
    lasts longer than two seconds is announced, and again every fifteen, so that nobody wonders
    whether it hangs. When nobody reads any more, or the terminal is gone, the run goes on: to end
    here would leave the fleet mixed.
    """

    def __init__(
        self, run: str, as_json: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run = run
        self.as_json = as_json
        self.clock = clock
        self.console = console()
        self._live: Live | None = None
        self._board: Any = None
        self._doing = ""
        self._since = self._told = clock()
        self._bytes: dict[str, tuple[int, int]] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self.as_json:
            return self
        if self.console.is_terminal:
            with suppress(Exception):
                self._open()
        threading.Thread(target=self._beat, name="progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        with self._lock, suppress(Exception):
            if self._live:
                self._live.stop()

    def report(self, event: Event) -> None:
        """Shows one event; callable from several threads. Whatever goes wrong with the display is
        no reason to stop a run half way."""
        with self._lock, suppress(Exception):
            if self.as_json:
                if event.kind != "progress":
                    line(event.as_json(self.run, time.time()))
                return
            if self._board:
                with suppress(Exception):
                    self._board.take(event)
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if event.kind == "progress":
            self._progress(event)
        elif event.kind in SILENT:
            pass
        elif event.kind == "begin":
            self._begin(subject(event) + f"{event.text}…")
        else:
            self._begin("")
            self._say(subject(event) + sentence(event), event.kind)

    def _open(self) -> None:
        """The live board. It is drawn by our own thread: rich's would die with a traceback."""
        from rich.live import Live

        from backline.console.live import Board

        self._board = Board(self.clock)
        self._live = Live(
            get_renderable=lambda: self._board,
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _begin(self, doing: str) -> None:
        self._doing, self._since = doing, self.clock()
        self._told = self._since

    def _progress(self, event: Event) -> None:
        self._bytes[str(event.host)] = (event.data["sent"], event.data["total"])
        sent = sum(pair[0] for pair in self._bytes.values())
        total = sum(pair[1] for pair in self._bytes.values())
        self._doing = (
            f"ship… {sent / 1e6:.1f} of {total / 1e6:.1f} MB to {wording.hosts(len(self._bytes))}"
        )

    def _say(self, text: str, kind: str) -> None:
        self.console.print(f"  {text}", style=STYLES.get(kind), markup=False)

    def _beat(self) -> None:
        while not self._over.wait(REFRESH_SECONDS):
            with self._lock, suppress(Exception):
                if self._over.is_set():
                    return
                if self._live:
                    self._live.refresh()
                else:
                    self._announce()

    def _announce(self) -> None:
        now = self.clock()
        quiet = QUIET_SECONDS if self._told == self._since else REPEAT_SECONDS
        if self._doing and now - self._told >= quiet:
            self._told = now
            self._say(f"{self._doing} ({now - self._since:.0f} s)", "begin")
