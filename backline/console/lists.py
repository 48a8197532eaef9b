"""Releases, leases, certificates and hosts as tables on stdout: one row for all hosts that are alike."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backline.console.cells import bare
from backline.console.output import console
from backline.console.words import listed
from backline.wording import plain_lines

if TYPE_CHECKING:
    from backline.operations.certificates import Entry
    from backline.operations.doctor import Finding
    from backline.operations.locks import Held, Left
    from backline.operations.releases import Kept
    from backline.operations.trust import Key

Line = tuple[Sequence[str], str | None]


def show_releases(found: Sequence[Kept]) -> None:
    """The newest first: where each is live, warm, or only there."""
    several = len({kept.app for kept in found}) > 1
    names = (*(["APP"] if several else []), "RELEASE", "VERSION", "STATE", "HERE", "WHERE")
    grid(names, (_release(kept, several) for kept in found))


def show_leases(found: Sequence[Held], left: Sequence[Left]) -> None:
    """Who holds what, then what nobody finished."""
    grid(
        ("APP", "RUN", "HOLDER", "ENDS IN", "HOSTS"),
        (
            ((h.app, h.run, h.holder, f"{h.ends_in:.0f} s", listed(h.tokens)), None)
            for h in found
        ),
    )  # fmt: skip
    for run in left:
        text = f"! run {run.run} of {run.app} is not finished on {listed(run.hosts)}, and nobody"
        console(sys.stdout).print(f"{text} works on it", style="yellow", markup=False)


def show_certificates(entries: Sequence[Entry], days: float) -> None:
    """Those that end first first; the same certificate on many hosts is one row."""
    alike: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        alike.setdefault((entry.name, entry.sha256, entry.trouble), []).append(entry)
    grid(
        ("DAYS", "ENDS", "WHAT", "OF", "HOSTS"),
        (_certificate(group, days) for group in alike.values()),
    )


def show_hosts(rows: Iterable[Sequence[str]]) -> None:
    """Each host: where SSH finds it, where the fleet does, its zone and its groups."""
    grid(("HOST", "SSH", "INSIDE", "ZONE", "GROUPS"), ((row, None) for row in rows))


def show_groups(groups: Mapping[str, Sequence[str]]) -> None:
    """Each group and its hosts, folded."""
    grid(
        ("GROUP", "COUNT", "HOSTS"),
        (((group, str(len(hosts)), listed(hosts)), None) for group, hosts in groups.items()),
    )


def show_keys(keys: Sequence[Key]) -> None:
    """Fingerprints to compare, host by host, on stderr; hosts that are pinned as they are, in one line."""
    out = console()
    pinned = [key.host for key in keys if key.state == "pinned"]
    others = dict.fromkeys(key.host for key in keys if key.state != "pinned")
    alike = dict.fromkeys(host for host in pinned if host not in others)
    if alike:
        out.print(f"pinned already: {listed(alike)}", style="dim", markup=False)
    for host in others:
        own = [key for key in keys if key.host == host]
        out.print(f"{host}  {own[0].place}", style="bold", markup=False)
        for key in own:
            style = {"new": "green", "changed": "bold red", "revoked": "bold red"}.get(key.state)
            state = key.state.upper() if key.was or key.state == "revoked" else key.state
            name = key.type.removeprefix("ssh-").removeprefix("ecdsa-sha2-")
            out.print(f"  {name:9} {key.fingerprint}  {state}", style=style, markup=False)
            if key.was:
                out.print(f"  {'pinned:':9} {key.was}", style="red", markup=False)
            if key.twin:
                text = f"  the same key as {key.twin}: was one copied from the other?"
                out.print(text, style="yellow", markup=False)


def show_finding(finding: Finding) -> None:
    """One line on stdout, and below it what to do."""
    out = console(sys.stdout)
    style = {"ok": "green", "warn": "yellow", "bad": "bold red"}[finding.level]
    out.print(f"{finding.level:5}", style=style, end="")
    out.print(f"{finding.check:13} {finding.says}", markup=False, soft_wrap=True)
    if finding.hint:
        out.print(f"{'':19}→ {finding.hint}", markup=False, soft_wrap=True)


def grid(names: Sequence[str], lines: Iterable[Line]) -> None:
    """A table on stdout whose last column takes what room there is; nothing when it has no lines."""
    from rich.text import Text

    table = bare()
    for name in names[:-1]:
        table.add_column(name, overflow="fold")
    table.add_column(names[-1], overflow="fold", ratio=1)
    for cells, style in lines:
        table.add_row(*(Text(plain_lines(cell)) for cell in cells), style=style)
    if table.row_count:
        console(sys.stdout).print(table)


def _release(kept: Kept, several: bool) -> Line:
    states = sorted(set(kept.states.values()))
    where = [
        f"{word} {listed(hosts)}"
        for word, hosts in (("live", kept.live), ("warm", kept.warm), ("there", kept.cold))
        if hosts
    ]
    if kept.trouble:
        where.append(f"dist/: {kept.trouble}")
    cells = (kept.id, kept.version or "", "/".join(states), "yes" if kept.here else "")
    style = "red" if "bad" in states or kept.trouble else "bold" if kept.live else None
    return (*([kept.app] if several else []), *cells, "; ".join(where)), style


def _certificate(group: Sequence[Entry], days: float) -> Line:
    first = group[0]
    hosts = listed(entry.host for entry in group)
    if first.days is None:
        return ("?", first.trouble, first.name, first.path, hosts), "red"
    ends = f"{datetime.fromtimestamp(first.not_after, UTC):%Y-%m-%d}"
    style = "red" if first.days < 0 else "yellow" if first.days < days else None
    return (f"{first.days:.0f}", ends, first.name, first.subject, hosts), style
