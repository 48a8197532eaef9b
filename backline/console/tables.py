"""A plan, for people: at most 80 columns without a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from backline import wording
from backline.console.output import console
from backline.console.words import listed

if TYPE_CHECKING:
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
    out.print(f"  {wording.hosts(len(plan.hosts))}; plan {plan.digest}", markup=False)


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
