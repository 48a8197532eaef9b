"""Edges, and what they show, on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backline.console.cells import ago, columns, plain
from backline.console.output import console
from backline.operations.maintenance import words

if TYPE_CHECKING:
    from backline.operations.maintenance import Edge


def show_maintenance(edges: Iterable[Edge]) -> None:
    """One row for each edge."""
    table = columns("HOST", "LISTENERS SEE", "SINCE", "BY", "UNTIL", "MESSAGE")
    for edge in edges:
        if edge.error is not None:
            table.add_row(plain(edge.host), plain(edge.error), "", "", "", "", style="red")
            continue
        kept = edge.kept or {}
        sees = "the maintenance page" if edge.on else "the application"
        if edge.on != edge.after_reload:
            sees += ", after a reload not any more"
        since = f"{ago(float(kept['since']))} ago" if kept.get("since") else ""
        until = words(float(kept["until"]))[1] if kept.get("until") else ""
        cells = (edge.host, sees, since, str(kept.get("actor", "")), until)
        style = "yellow" if edge.on else None
        table.add_row(*map(plain, cells), plain(str(kept.get("message", ""))), style=style)
    console(sys.stdout).print(table)
