"""Plans, the fleet, runs and events as tables: for people, at most 80 columns without a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backline.console.output import console
from backline.console.words import listed

if TYPE_CHECKING:
    from backline.operations.status import Row
    from backline.rollout.plan import Plan


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
        out.print(f"  batch {number}   {listed(batch)}", markup=False)
        for text, hosts in _changes(plan, batch).items():
            where = "" if len(hosts) == len(batch) else f"{listed(hosts)}: "
            out.print(f"    {where}{text}", markup=False)
    if plan.left_out:
        out.print(f"  without   {listed(plan.left_out)}: in quarantine", markup=False)
    out.print(f"  {len(plan.hosts)} hosts; plan {plan.digest}", markup=False)


def _shipping(plan: Plan) -> list[str]:
    """`0.1 MB as a patch against ID to stream[1-2]`, one for each kind of shipment."""
    kinds: dict[str, list[str]] = {}
    for shipment in plan.shipments:
        how = f"as a patch against {shipment.base}" if shipment.base else "whole"
        kinds.setdefault(f"{shipment.size / 1e6:.2f} MB {how}", []).append(shipment.host)
    return [f"{text} to {listed(hosts)}" for text, hosts in kinds.items()] or [
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
