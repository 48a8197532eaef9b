"""Where output goes: NDJSON on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from backline.wording import plain_lines

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

WIDTH = 80


def line(record: dict[str, Any]) -> None:
    """One line of NDJSON on stdout, at once."""
    print(json.dumps(record, default=list), flush=True)


def console(file: TextIO | None = None) -> Console:
    """A rich console; 80 columns where there is no terminal that says otherwise. What steers a terminal,
    in whatever is printed there, is shown and not obeyed: much of it is what hosts and others said."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            """rich would end the program, with code 1, in the middle of whatever it does."""
            self.quiet = True
            raise BrokenPipeError

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for part in super().render(renderable, options):
                harmless = part.text if part.control else plain_lines(part.text)
                yield part if harmless == part.text else part._replace(text=harmless)

    file = file or sys.stderr
    width = None if file.isatty() or "COLUMNS" in os.environ else WIDTH
    return Piped(file=file, width=width, highlight=False, soft_wrap=False)
