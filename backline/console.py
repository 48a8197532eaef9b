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
STYLES = {"warning": "yellow", "failed": "red", DONE: "green", "phase": "bold"}
SILENT = ("begun", "ended")
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
            elif event.kind in SILENT:
                pass
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
        self.console.print(f"  {text}", style=STYLES.get(kind), markup=False)

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
    if event.kind in SENTENCES:
        return SENTENCES[event.kind](event) + took
    detail = f": {event.text}" if event.text else ""
    return f"{WORDS.get(event.kind, event.kind)}{detail}{took}"


def _phase(event: Event) -> str:
    data = event.data
    if data["phase"] == "batch":
        return f"batch {data['number']} of {data['of']}: {_listed(data['hosts']) or 'nobody'}"
    if data["phase"] == "soak":
        return f"watching {len(data['hosts'])} hosts for {data['seconds']:g} s"
    if data["phase"] == "retreat":
        return f"going back: {event.text}"
    return f"{data['phase']}: {len(data['hosts'])} hosts"


def _stopped(event: Event) -> str:
    if event.data.get("after"):
        return f"{event.release} stays warm for {event.data['after']:g} s"
    if event.data.get("wait") is False:
        return f"{event.release} finishes what it has"
    return f"{event.release} stopped"


def _verdict(event: Event) -> str:
    data = event.data
    judged = {True: "well", False: "ILL", None: "too few requests to tell"}[data.get("well")]
    median = f", median {data['median_ms']:.0f} ms" if data.get("median_ms") else ""
    usual = f" (before {data['usual_median_ms']:.0f})" if data.get("usual_median_ms") else ""
    said = f"; {event.text}" if event.text else ""
    return f"{judged}: {data['requests']} requests, {data['failed']} failed{median}{usual}{said}"


def _ship(event: Event) -> str:
    return f"shipped {event.data.get('bytes', 0) / 1e6:.2f} MB"


def _ended(event: Event) -> str:
    return "ended well" if not event.data.get("exit_code") else "ended"


SENTENCES: dict[str, Callable[[Event], str]] = {
    "phase": _phase,
    "stop": _stopped,
    BACK: lambda event: f"on {event.release}",
    "verdict": _verdict,
    "ship": _ship,
    "ended": _ended,
    "quarantine": lambda event: f"in quarantine: {', '.join(event.data['hosts'])}",
}


def show_plan(plan: Plan) -> None:
    """The plan, on stderr, before it is carried out."""
    out = console()
    verb = {"deploy": "deploy", "rollback": "roll back to"}[plan.action]
    out.print(f"{verb} {plan.app} {plan.release} ({plan.version})", style="bold", markup=False)
    if plan.action == "deploy":
        for text in _shipping(plan):
            out.print(f"  ship      {text}", markup=False)
        out.print(f"  migrate   {plan.migrate_on or 'nothing'}", markup=False)
    for number, batch in enumerate(plan.batches, start=1):
        out.print(f"  batch {number}   {_listed(batch)}", markup=False)
        for text, hosts in _changes(plan, batch).items():
            where = "" if len(hosts) == len(batch) else f"{_listed(hosts)}: "
            out.print(f"    {where}{text}", markup=False)
    if plan.left_out:
        out.print(f"  without   {_listed(plan.left_out)}: in quarantine", markup=False)
    out.print(f"  {len(plan.hosts)} hosts; plan {plan.digest}", markup=False)


def _shipping(plan: Plan) -> list[str]:
    """`0.1 MB as a patch against ID to stream[1-2]`, one for each kind of shipment."""
    kinds: dict[str, list[str]] = {}
    for shipment in plan.shipments:
        how = f"as a patch against {shipment.base}" if shipment.base else "whole"
        kinds.setdefault(f"{shipment.size / 1e6:.2f} MB {how}", []).append(shipment.host)
    return [f"{text} to {_listed(hosts)}" for text, hosts in kinds.items()] or [
        "nothing: it is there"
    ]


def _changes(plan: Plan, hosts: Iterable[str]) -> dict[str, list[str]]:
    """What happens to which of these hosts: hosts with the same fate share a line."""
    found: dict[str, list[str]] = {}
    for host in hosts:
        words = [f"{s.process} {_change(s.live, plan.release)}" for s in plan.by_host[host]]
        found.setdefault(", ".join(words), []).append(host)
    return found


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
