"""Lines of many journals: time, host, who, what."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backline.console import paint

if TYPE_CHECKING:
    from backline.operations.logs.entry import Entry

ERROR, WARNING, DEBUG = 3, 4, 7


class JournalLines:
    """Writes entries to stdout, hosts in a column of their own and in a colour of their own."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self.out = sys.stdout
        self.colour = paint.wanted(self.out)
        self.width = max((len(host) for host in hosts), default=0)

    def show(self, entry: Entry) -> None:
        """One entry; a message of several lines goes on under itself."""
        moment = datetime.fromtimestamp(entry.time // 1_000_000, UTC)
        clock = f"{moment:%m-%d %H:%M:%S}.{entry.time // 1000 % 1000:03d}"
        pid = f"[{paint.plain(entry.pid)}]" if entry.pid else ""
        host = paint.host(entry.host, self.width, self.colour)
        source = paint.plain(entry.source.removesuffix(".service"))
        style = _style(entry.priority)
        first, *more = paint.plain_lines(entry.message.removesuffix("\n")).split("\n")
        text = f"{clock} {host} {source}{pid}: {self._text(first, style)}\n"
        blank = " " * (len(clock) + self.width + 2)
        self.out.write(text + "".join(f"{blank}  {self._text(line, style)}\n" for line in more))

    def flush(self) -> None:
        """Shows what was written."""
        self.out.flush()

    def _text(self, text: str, style: str) -> str:
        return paint.paint(text, style, self.colour and bool(style))


def _style(priority: int) -> str:
    if priority <= ERROR:
        return "red"
    return "yellow" if priority == WARNING else "dim" if priority == DEBUG else ""
