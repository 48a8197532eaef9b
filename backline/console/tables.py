"""A plan, for people: at most 80 columns without a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from backline import wording
from backline.console.output import console
from backline.console.words import listed

if TYPE_CHECKING:
    from backline.rollout.plan import Plan
    from backline.rollout.takeover import Found, Holder, Move
    from backline.transport.port import HostError


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


def show_takeover(
    found: Found,
    how: str,
    moves: Sequence[Move],
    missing: Mapping[str, HostError],
    holder: Holder | None,
) -> None:
    """What would become of an unfinished run, on stderr: who works on it, and what each host ends on."""
    out, plan = console(), found.plan
    title = f"{how} run {found.run}: {plan.action} of {plan.app} {plan.release}"
    out.print(title, style="bold", markup=False)
    if found.retreating and how == "resume":
        out.print("  it was on its way back: that is what goes on", markup=False)
    out.print(f"  {_whose(how, holder)}", markup=False)
    fates: dict[str, list[str]] = {}
    for host in plan.hosts:
        words = [f"{move.process} {_move(move)}" for move in moves if move.host == host]
        fates.setdefault(", ".join(words), []).append(host)
    for text, hosts in fates.items():
        out.print(f"  {listed(hosts)}: {text}", markup=False)
    for host, error in missing.items():
        text = f"  without   {host}: {error.message}"
        out.print(text, style="yellow", markup=False)
    out.print(f"  {wording.hosts(len(plan.hosts))}", markup=False)


def _whose(how: str, holder: Holder | None) -> str:
    if holder is None:
        return "nobody works on it: this machine takes its place"
    name, seconds = holder
    held = f"{name} holds its lease for {seconds:.0f} s more"
    if how == "abort":
        return (
            f"{held}: that run is told, and goes back by itself; if it is dead, we take its place"
        )
    return f"{held}: that is waited for, and refused (5) when the lease is renewed"


def _move(move: Move) -> str:
    if move.now == move.to:
        return f"has {move.to} already" if move.to else "does not run, and stays so"
    if move.to is None:
        return f"stops ({move.now})"
    return f"{move.now or 'nothing'} → {move.to}"


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
