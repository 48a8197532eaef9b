"""Environment files, read exactly as systemd reads an EnvironmentFile=.

A process gets its settings from systemd and a migration gets them from here: if the two readers
disagreed about one quote, the migration would meet another password than the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .errors import HostctlError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ESCAPABLE = '"\\`$'  # within double quotes; before anything else a backslash is itself


def read(path: Path) -> dict[str, str]:
    """The variables of a file.

    Raises `HostctlError` (bad_environment), naming the line and never its content.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise HostctlError(
            "bad_environment", f"{path} is missing", "run the playbook that writes it"
        ) from None
    found = {}
    for number, statement in _statements(text):
        name, equals, raw = statement.partition("=")
        value = _value(raw) if equals else None
        if value is None or not NAME.fullmatch(name.strip()):
            raise HostctlError(
                "bad_environment",
                f"{path}: line {number} is not NAME=value",
                "correct the role's variables and run the playbook",
            )
        found[name.strip()] = value
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, those continued by a backslash joined, with their numbers."""
    pending, first = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not pending and line.lstrip()[:1] in ("", "#", ";"):
            continue
        first = first if pending else number
        pending += line
        if (len(pending) - len(pending.rstrip("\\"))) % 2:
            pending += "\n"  # what is continued, and in which kind of quote, `_value` finds out
            continue
        yield first, pending
        pending = ""
    if pending:
        yield first, pending


def _value(raw: str) -> str | None:
    """A value without its quotes, or None when a quote is not closed.

    Quotes count where a value starts or where a quoted part ended; elsewhere they are themselves.
    """
    out, plain, quote = "", "", ""
    characters = iter(raw)
    for char in characters:
        if quote == "'":
            quote, out = ("", out) if char == "'" else (quote, out + char)
        elif quote == '"':
            if char == '"':
                quote = ""
            elif char == "\\":
                out += _escaped(next(characters, ""))
            else:
                out += char
        elif char == "\\":
            plain += next(characters, "").replace("\n", "")
        elif not plain and char in "'\"":
            quote = char
        elif plain or not char.isspace():
            plain += char
    return None if quote else out + plain.rstrip()


def _escaped(char: str) -> str:
    if char == "\n":
        return ""
    return char if char and char in ESCAPABLE else "\\" + char
