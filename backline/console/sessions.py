"""Sessions, locks, statements and tables of PostgreSQL, on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backline.console.cells import ago, columns, plain, span
from backline.console.output import console

if TYPE_CHECKING:
    from backline.operations.database.sessions import Knot, Session, Statement
    from backline.operations.database.tables import Table

TEXT = 300


def show_sessions(found: Iterable[Session], verbatim: bool) -> None:
    """What runs: who, since when, and below it the statement."""
    out = console(sys.stdout)
    for session in found:
        out.print(_about(session), style="bold", markup=False, soft_wrap=True)
        out.print(f"    {_cut(session.text(verbatim))}", markup=False, soft_wrap=True)


def show_statements(found: Iterable[Statement], verbatim: bool) -> None:
    """What costs most, in all."""
    out = console(sys.stdout)
    for one in found:
        times = f"{one.seconds:.1f} s in {one.calls} calls, {one.mean_ms:.1f} ms each"
        head = f"{times}, {one.rows} rows; {one.user or '?'}@{one.database or '?'}"
        out.print(head, style="bold", markup=False, soft_wrap=True)
        text = one.as_json(verbatim)["query"]
        out.print(f"    {_cut(str(text))}", markup=False, soft_wrap=True)


def show_locks(knots: Iterable[Knot], verbatim: bool) -> None:
    """Who holds up whom: each stands below the one it waits for."""
    out = console(sys.stdout)
    for knot in knots:
        step = "  " * knot.depth + ("└ " if knot.depth else "")
        if knot.session is None:
            text = "a prepared transaction, or a session that has ended: select * from pg_prepared_xacts"
            out.print(f"{step}{text}", style="red", markup=False, soft_wrap=True)
            continue
        wants = f" wants {knot.session.wants}" if knot.session.wants else ""
        style = None if knot.depth else "red"
        head = f"{step}{_about(knot.session)}{wants}"
        out.print(head, style=style, markup=False, soft_wrap=True)
        text = _cut(knot.session.text(verbatim))
        out.print(f"{' ' * len(step)}    {text}", markup=False, soft_wrap=True)


def show_tables(found: Iterable[Table]) -> None:
    """Tables by what vacuum has left to do."""
    table = columns("TABLE", "LIVE", "DEAD", "%", "AGE", "SIZE", "VACUUMED", "ANALYZED")
    for one in found:
        share = 100 * one.dead / max(1, one.live + one.dead)
        moments = [f"{ago(when)} ago" if when else "never" for when in (one.vacuumed, one.analyzed)]
        name = f"{one.database}: {one.schema}.{one.name}"
        numbers = (str(one.live), str(one.dead), f"{share:.0f}", _millions(one.age))
        table.add_row(plain(name), *numbers, f"{one.bytes / 1e6:.1f} MB", *moments)
    console(sys.stdout).print(table)


def _about(session: Session) -> str:
    """`db1 4711 app@jukebox from 198.18.0.21: active for 12 s, in a transaction for 5 min`."""
    where = f" from {session.client}" if session.client else ""
    parts = [session.state or session.kind]
    if session.statement is not None:
        parts[0] += f" for {span(session.statement)}"
    if session.transaction is not None:
        parts.append(f"in a transaction for {span(session.transaction)}")
    if session.waits:
        parts.append(f"waits ({session.waits})")
    who = f"{session.user or '-'}@{session.database or '-'}"
    return f"{session.member} {session.pid} {who}{where}: {', '.join(parts)}"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


def _millions(age: int) -> str:
    return f"{age / 1e6:.1f} M" if age >= 100_000 else str(age)
