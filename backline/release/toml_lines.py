"""Which line of a TOML file a key stands on; `tomllib` does not say, and errors should."""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_STRINGS = re.compile(r'''"""|\'\'\'|"(?:\\.|[^"\\])*"|'[^']*'|#.*''')

Path = tuple[str, ...]


def lines(text: str) -> dict[Path, int]:
    """The line (from 1) of every table and key: `("processes", "web", "kind")` → 7.

    Good enough for messages: arrays and strings that go over several lines belong to the line where
    their key stands.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not depth and not quote:
            header, key = _HEADER.match(line), _KEY.match(line)
            if header:
                table = _parts(header.group(1))
                found.setdefault(table, number)
                continue
            if key:
                found[table + _parts(key.group(1))] = number
                line = line[key.end() :]
        depth, quote = _after(line, depth, quote)
    return found


def line_of(known: dict[Path, int], path: tuple[object, ...]) -> int:
    """The line of `path`, or of the nearest thing around it that has one; 1 when nothing has."""
    wanted = tuple(str(part) for part in path)
    for length in range(len(wanted), 0, -1):
        if wanted[:length] in known:
            return known[wanted[:length]]
    return 1


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _after(line: str, depth: int, quote: str) -> tuple[int, str]:
    """How many brackets, and which long string, are open at the end of the line."""
    if quote:
        _, closed, line = line.partition(quote)
        if not closed:
            return depth, quote
    rest = []
    position = 0
    for match in _STRINGS.finditer(line):
        if match.start() < position:
            continue
        rest.append(line[position : match.start()])
        position = match.end()
        if match.group() in ('"""', "'''"):
            end = line.find(match.group(), position)
            if end < 0:
                return depth + _open("".join(rest)), match.group()
            position = end + 3
    rest.append(line[position:])
    return depth + _open("".join(rest)), ""


def _open(text: str) -> int:
    return sum(text.count(c) for c in "[{") - sum(text.count(c) for c in "]}")
