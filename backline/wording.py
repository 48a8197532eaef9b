"""Hosts in messages: how many, and what each of them said. Layout is the console's business."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

_CONTROL = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f"
    r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # they turn text around, and end lines
)


class Said(Protocol):
    """An error of one host, such as a HostError."""

    host: str
    message: str


def hosts(count: int) -> str:
    """`1 host`, `2 hosts`."""
    return counted(count, "host")


def counted(count: int, thing: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def lasting(seconds: float) -> str:
    """`2.5 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 90:
        return f"{seconds:.1f} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(text: str) -> str:
    """`text` without characters that steer a terminal, or the order in which it shows others: whoever
    fills a log, or answers for a host, may have put them there. A new line is one, see `plain_lines`."""
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def plain_lines(text: str) -> str:
    """`plain` for a text that may have several lines. An end of line as networks have it is one too."""
    return "\n".join(plain(line.removesuffix("\r")) for line in text.split("\n"))


def touched(doing: str, names: Iterable[str], env: str) -> str:
    """What is about to happen where: `restart stream[1-3] of production`.

    It stands above the question for the number of hosts, so it does not count them.
    """
    from backline.selection import fold

    return f"{doing} {fold(names)} of {env}"


def silent(reasons: Mapping[str, object], asked: int) -> str:
    """`1 of 4 hosts did not answer`, and a line for each of them. `asked`: how many there were."""
    return f"{len(reasons)} of {hosts(asked)} did not answer\n{each(reasons.items())}"


def each(reasons: Iterable[tuple[str, object]]) -> str:
    """(host, why) as lines: `stream1: timed out`. Hosts that say the same share a line."""
    from backline.selection import fold

    by_reason: dict[str, list[str]] = {}
    for host, why in reasons:
        by_reason.setdefault(str(why), []).append(host)
    return "\n".join(f"{fold(names)}: {why}" for why, names in by_reason.items())


def said(errors: Iterable[Said]) -> str:
    """`each`, of errors."""
    return each((error.host, error.message) for error in errors)
