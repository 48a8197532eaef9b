"""What tables are made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backline.wording import plain_lines

if TYPE_CHECKING:
    from rich.table import Table

WHOLE = ("MEMBER", "BROKER", "QUEUE", "HOST", "JOB", "PID")
"""Columns whose words are not folded: they are copied."""


def bare() -> Table:
    """A table without lines around it, and without columns so far."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def columns(*names: str) -> Table:
    """An empty table whose words are folded where the terminal is narrow."""
    table = bare()
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name in WHOLE)
    return table


def plain(text: str) -> str:
    """Text that means itself, brackets included, and steers no terminal."""
    from rich.markup import escape

    return escape(plain_lines(text))


def ago(moment: float) -> str:
    """How long ago, in the largest unit that says something."""
    return span(time.time() - moment)


def span(seconds: float) -> str:
    """A time in the largest unit that says something."""
    left = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if left >= size:
            return f"{left / size:.0f} {unit}"
    return f"{left:.0f} s"
