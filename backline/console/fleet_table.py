"""The fleet as one table: as many columns as the terminal has room for, and what is wrong at the end.

In 80 columns there is what an on-call engineer looks at first; each wider terminal shows more. What
has no column of its own, and matters, is among the notes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backline.console.cells import bare
from backline.console.output import console
from backline.wording import plain, plain_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

    from backline.operations.status import Row
    from backline.operations.vitals import Vitals

NOTES = "NOTES"
LEAST_NOTES = 24
REDRAW_SECONDS = 0.25
AROUND = 3
"""Lines of a screen beside the rows: the title, the names of the columns, how many more there are."""
DAY = 86400


@dataclass(frozen=True)
class Column:
    """`cell` is its text for a row; `rank` says how early it is given room (0: always)."""

    name: str
    rank: int
    cell: Callable[[Row], str]
    right: bool = False


def show_status(rows: Sequence[Row]) -> None:
    """The fleet as a table on stdout, at most 80 columns wide where there is no terminal."""
    console(sys.stdout).print(FleetTable(rows))


class Screen:
    """Where a table that is looked at again and again goes: see `watch_status`."""

    def __init__(self, title: Callable[[], str]) -> None:
        self.title = title
        self.out = console(sys.stdout)
        self.live: Live | None = None
        self.last: FleetTable | None = None
        self.drawn = 0.0

    def partly(self, rows: Sequence[Row]) -> None:
        """The rows as they are while hosts still answer; nothing without a terminal."""
        if time.monotonic() - self.drawn >= REDRAW_SECONDS:
            self._draw(rows)

    def whole(self, rows: Sequence[Row]) -> None:
        """The rows when all hosts have answered, or will not."""
        self.last = FleetTable(rows, self.title())
        if self.live is None:
            self.out.print(self.last)
        else:
            self._draw(rows)

    def _draw(self, rows: Sequence[Row]) -> None:
        if self.live is not None:
            self.live.update(FleetTable(rows, self.title(), cut=True), refresh=True)
            self.drawn = time.monotonic()


@contextmanager
def watch_status(title: Callable[[], str]) -> Iterator[Screen]:
    """A table that is drawn again in place; where there is no terminal, one after the other.

    The last one stays when it is over.
    """
    from rich.live import Live

    screen = Screen(title)
    if not screen.out.is_terminal:
        yield screen
        return
    try:
        with Live(console=screen.out, screen=True, auto_refresh=False) as screen.live:
            yield screen
    finally:
        if screen.last is not None:
            screen.out.print(screen.last)


class FleetTable:
    """The rows as rich draws them, for the width that there is.

    With `cut`, on a screen that is too low, hosts with troubles come first and the rest is counted.
    """

    def __init__(self, rows: Sequence[Row], title: str = "", cut: bool = False) -> None:
        self.rows = list(rows)
        self.title = title
        self.cut = cut

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.text import Text

        rows, more = self.rows, 0
        if self.title:
            yield Text(self.title, style="bold", no_wrap=True, overflow="ellipsis")
        columns = fitting(rows, options.max_width)
        room = options.size.height - AROUND
        if self.cut and len(rows) > room:
            rows = sorted(rows, key=lambda row: _style(row) is None)[: max(1, room)]
            more = len(self.rows) - len(rows)
        table = bare()
        for column in columns:
            justify = "right" if column.right else "left"
            table.add_column(column.name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        table.add_column(NOTES, overflow="fold")
        shown = {column.name for column in columns}
        seen: set[str] = set()
        for row in rows:
            cells = [Text(plain(_cell(column, row, row.host in seen))) for column in columns]
            words = Text(plain_lines("; ".join(notes(row, shown, row.host in seen))))
            table.add_row(*cells, words, style=_style(row))
            seen.add(row.host)
        yield table
        if more:
            yield Text(f"+ {more} more", style="dim")


def fitting(rows: Sequence[Row], width: int) -> list[Column]:
    """The columns that have something to say and fit beside the notes, in their usual order."""
    wide = {column.name: _width(column, rows) for column in COLUMNS}
    if len({row.app for row in rows if row.app}) < 2:
        wide["APP"] = 0
    longest = max((len("; ".join(notes(row, set(), False))) for row in rows), default=0)
    room = width - max(len(NOTES), min(LEAST_NOTES, longest)) - 1
    chosen = []
    for column in sorted(COLUMNS, key=lambda column: column.rank):
        needed = wide[column.name] + 1
        if column.rank == 0 or (wide[column.name] and needed <= room):
            chosen.append(column)
            room -= needed
    return [column for column in COLUMNS if column in chosen]


def notes(row: Row, shown: set[str], again: bool) -> list[str]:
    """What matters of a row beside its columns; `again`: an earlier row has told of its host."""
    if row.error is not None:
        return [row.error, *row.left_behind]
    found = [_drained(row)] if row.drained and not again else []
    if row.lease:
        found.append(f"leased to {row.lease.get('holder')}")
    if row.state not in (None, "good"):
        found.append(str(row.state))
    vitals = None if again else row.vitals
    own = row.vitals.troubles if row.vitals and again else []
    found += [trouble for trouble in row.troubles if trouble not in own]
    if vitals:
        if vitals.role and "ROLE" not in shown:
            found.append(_role(row))
        if vitals.queued and "QUEUED" not in shown:
            found.append(f"{vitals.queued} queued")
        if vitals.drill:
            found.append(vitals.drill)
        if "WAITING" not in shown:
            found += vitals.waiting
    elif not again and row.hostctl is not None:
        found.append(f"hostctl {row.hostctl} is too old to say more")
    return found


def _drained(row: Row) -> str:
    by = row.drained_by if row.drained_by != row.upkeep else None  # that is told of by itself
    return f"drained by {by}" if by else "drained"


def _cell(column: Column, row: Row, again: bool) -> str:
    if row.error is not None:
        said = "error" if row.reachable else "unreachable"
        return {"HOST": row.host, "RELEASE": said}.get(column.name, "")
    return "" if again and column.name in OF_THE_HOST else column.cell(row)


def _width(column: Column, rows: Sequence[Row]) -> int:
    """Of its widest cell and its name; 0 when all its cells are empty."""
    widest = max((len(plain(_cell(column, row, False))) for row in rows), default=0)
    return max(widest, len(column.name)) if widest else 0


def _style(row: Row) -> str | None:
    if row.error is not None:
        return "red"
    return "yellow" if row.troubles or row.drained else None


def _release(row: Row) -> str:
    return row.current or ("-" if row.app else "")


def _runs(row: Row) -> str:
    well, live = row.running
    return f"{well}/{live}" if row.app else ""


def _role(row: Row) -> str:
    vitals = row.vitals
    if vitals is None or not vitals.role:
        return ""
    return f"{vitals.role}, {_bytes(vitals.lag)} behind" if vitals.lag else vitals.role


def _bytes(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1e6:.1f} MB"


def _processes(row: Row) -> str:
    return ", ".join(row.processes or {})


def _of(text: Callable[[Vitals], str]) -> Callable[[Row], str]:
    """A cell of the vital signs, empty where they are not known."""
    return lambda row: text(row.vitals) if row.vitals else ""


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _span(seconds: float | None) -> str:
    """How long, in its largest unit."""
    if seconds is None:
        return ""
    for size, unit in ((DAY, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


COLUMNS = (
    Column("HOST", 0, lambda row: row.host),
    Column("APP", 2, lambda row: row.app or ""),
    Column("RELEASE", 1, _release),
    Column("VERSION", 8, lambda row: row.version or ""),
    Column("RUNS", 2, _runs, right=True),
    Column("PROCESSES", 12, _processes),
    Column("ROLE", 6, _role),
    Column("QUEUED", 7, _of(lambda v: "" if v.queued is None else str(v.queued)), right=True),
    Column("LOAD", 5, _of(lambda v: "" if v.load is None else f"{v.load:.1f}"), right=True),
    Column("MEM", 4, _of(lambda v: _share(v.memory)), right=True),
    Column("DISK", 3, _of(lambda v: _share(v.disk.used) if v.disk else ""), right=True),
    Column("UP", 5, _of(lambda v: _span(v.uptime)), right=True),
    Column("WAITING", 10, _of(lambda v: ", ".join(v.waiting))),
    Column("CERT", 10, _of(lambda v: "" if v.ends_in is None else f"{v.ends_in:.0f}d"), right=True),
    Column("HOSTCTL", 13, lambda row: row.hostctl or ""),
)
OF_THE_HOST = {
    *("HOST", "ROLE", "QUEUED", "LOAD", "MEM", "DISK", "UP", "WAITING", "CERT", "HOSTCTL"),
}
"""Columns that say the same for each app of a host."""


def now() -> str:
    """The time of a table, in UTC."""
    return time.strftime("%H:%M:%SZ", time.gmtime())
