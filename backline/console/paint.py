"""Colours for lines that come by the thousand, where rich would take longer than the hosts do."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from typing import TextIO

from backline.wording import plain, plain_lines

__all__ = ["host", "paint", "plain", "plain_lines", "shown", "steered", "wanted", "width"]

DUMB = "dumb", "unknown"
WIDTH = 80
RESET = "\x1b[0m"
STYLES = {"bold": "\x1b[1m", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m"}
STYLES["dim"] = "\x1b[2m"
HOSTS = (36, 32, 35, 34, 33, 96, 92, 95, 94, 93)
"""Of a host's name: none is red, which means trouble."""


def wanted(file: TextIO) -> bool:
    """Colours go to terminals that know them, unless $NO_COLOR is set."""
    return steered(file) and not os.environ.get("NO_COLOR")


def steered(file: TextIO) -> bool:
    """Whether it is a terminal that obeys escapes: `TERM=dumb` obeys none."""
    return file.isatty() and os.environ.get("TERM", "").lower() not in DUMB


def width(file: TextIO) -> int:
    """How many columns a terminal has: $COLUMNS, what it says itself, or 80."""
    named = os.environ.get("COLUMNS", "")
    with suppress(OSError, ValueError):  # no terminal; no file at all
        found = int(named) if named.isdecimal() else os.get_terminal_size(file.fileno()).columns
        if found > 0:
            return found
    return WIDTH


def paint(text: str, style: str, on: bool) -> str:
    """`text` in a style, if colours are on."""
    return f"{STYLES[style]}{text}{RESET}" if on and style else text


def host(name: str, width: int, on: bool) -> str:
    """A host's name in a column, in a colour that is its own as long as it has this name."""
    text = name.ljust(width)
    return f"\x1b[{HOSTS[zlib.crc32(name.encode()) % len(HOSTS)]}m{text}{RESET}" if on else text


def shown(text: str, file: TextIO) -> str:
    """What a host said, as it is for a pipe or a file, and without what steers a terminal for one."""
    return plain_lines(text) if file.isatty() else text
