"""What people and programs see: people on stderr, results and NDJSON on stdout."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from backline.operations.status import Row
    from backline.rollout.events import Event
    from backline.rollout.plan import Plan

QUIET_SECONDS = 2.0
REPEAT_SECONDS = 15.0
WIDTH = 80
BACK, DONE = "rollback", "done"
WORDS = {
    "lease": "lease taken",
    "ship": "shipped",
    "stage": "staged and verified",
    "migrate": "migrated",
    "start": "started",
    "check": "healthy",
    "switch": "switched",
    "stop": "stopped",
    "rollback": "brought back",
}


def line(record: dict[str, Any]) -> None:
    """One line of NDJSON on stdout, at once."""
    print(json.dumps(record, default=list), flush=True)


def console(file: TextIO | None = None) -> Console:
    """A rich console; 80 columns where there is no terminal that says otherwise."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            """rich would end the program, with code 1, in the middle of whatever it does."""
            self.quiet = True
            raise BrokenPipeError

    file = file or sys.stderr
    width = None if file.isatty() or "COLUMNS" in os.environ else WIDTH
    return Piped(file=file, width=width, highlight=False, soft_wrap=False)


class Narrator:
    """Tells of a run's events as they come: lines for people, or NDJSON.

    On a terminal a spinner shows what is going on; elsewhere, whatever lasts longer than two seconds
    is announced, and again every fifteen, so that nobody wonders whether it hangs. When nobody reads
    any more, the run goes on: to end here would leave the fleet mixed.
    """

    def __init__(
        self, run: str, as_json: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run = run
        self.as_json = as_json
        self.clock = clock
        self.console = console()
        self._status: Status | None = None
        self._doing = ""
        self._since = self._told = clock()
        self._bytes: dict[str, tuple[int, int]] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.as_json:
            self._status = self.console.status("")
            self._status.start()
        elif not self.as_json:
            threading.Thread(target=self._beat, name="progress", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._status:
            self._status.stop()

    def report(self, event: Event) -> None:
        """Shows one event; callable from several threads."""
        with self._lock, suppress(BrokenPipeError):
            if self.as_json:
                if event.kind != "progress":
                    line(event.as_json(self.run, time.time()))
            elif event.kind == "progress":
                self._progress(event)
            elif event.kind == "begin":
                self._begin(_subject(event) + f"{event.text}…")
            else:
                self._begin("")
                self._say(_subject(event) + _sentence(event), event.kind)

    def _begin(self, doing: str) -> None:
        self._doing, self._since = doing, self.clock()
        self._told = self._since
        if self._status:
            self._status.update(doing)

    def _progress(self, event: Event) -> None:
        self._bytes[str(event.host)] = (event.data["sent"], event.data["total"])
        sent = sum(pair[0] for pair in self._bytes.values())
        total = sum(pair[1] for pair in self._bytes.values())
        self._doing = f"ship… {sent / 1e6:.1f} of {total / 1e6:.1f} MB to {len(self._bytes)} hosts"
        if self._status:
            self._status.update(self._doing)

    def _say(self, text: str, kind: str) -> None:
        style = {"warning": "yellow", BACK: "yellow", DONE: "green"}.get(kind)
        self.console.print(f"  {text}", style=style, markup=False)

    def _beat(self) -> None:
        while not self._over.wait(0.5):
            with self._lock, suppress(BrokenPipeError):
                now = self.clock()
                quiet = QUIET_SECONDS if self._told == self._since else REPEAT_SECONDS
                if self._doing and now - self._told >= quiet:
                    self._told = now
                    self._say(f"{self._doing} ({now - self._since:.0f} s)", "begin")


def _subject(event: Event) -> str:
    return "".join(f"{part:9} " for part in (event.host, event.process) if part)


def _sentence(event: Event) -> str:
    took = f" ({event.seconds:.1f} s)" if event.seconds and event.seconds >= 0.1 else ""
    detail = f": {event.text}" if event.text else ""
    if event.kind == "stop":
        return f"{event.release} stopped{took}"
    if event.kind == BACK:
        return f"back on {event.release}{took}"
    return f"{WORDS.get(event.kind, event.kind)}{detail}{took}"


def show_plan(plan: Plan) -> None:
    """The plan, on stderr, before it is carried out."""
    out = console()
    verb = {"deploy": "deploy", "rollback": "roll back to"}[plan.action]
    out.print(f"{verb} {plan.app} {plan.release} ({plan.version})", style="bold", markup=False)
    if plan.action == "deploy":
        out.print(f"  ship to   {_listed(plan.ship_to) or 'nobody: it is there'}", markup=False)
        out.print(f"  migrate   {plan.migrate_on or 'nothing'}", markup=False)
    for host in plan.hosts:
        steps = [step for step in plan.steps if step.host == host]
        words = ", ".join(f"{step.process} {_change(step.live, plan.release)}" for step in steps)
        out.print(f"  {host:9} {words}", markup=False)
    out.print(f"  {len(plan.hosts)} hosts, one after the other; plan {plan.digest}", markup=False)


def _change(live: str | None, release: str) -> str:
    if live == release:
        return "stays"
    return f"replaces {live}" if live else "starts for the first time"


def _listed(hosts: Iterable[str]) -> str:
    from backline.selection import fold

    names = list(hosts)
    return fold(names) if names else ""


def show_status(rows: Iterable[Row]) -> None:
    """The fleet as a table on stdout, at most 80 columns wide where there is no terminal."""
    from rich.table import Table

    out = console(sys.stdout)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("HOST", "RELEASE", "VERSION", "PROCESSES", "NOTES"):
        table.add_column(name, overflow="fold", no_wrap=name in ("HOST", "RELEASE"))
    for row in rows:
        table.add_row(*(_plain(cell) for cell in _cells(row)), style="red" if row.error else None)
    out.print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if row.error is not None:
        return row.host, "error" if row.reachable else "unreachable", "", "", row.error
    notes = ["drained"] if row.drained else []
    if row.lease:
        notes.append(f"leased to {row.lease.get('holder')}")
    if row.state not in (None, "good"):
        notes.append(str(row.state))
    notes += row.troubles
    processes = ", ".join(row.processes or {})
    release = row.current or ("-" if row.app else "")
    return row.host, release, row.version or "", processes, "; ".join(notes)
