"""One line of a journal. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

INFO = 6
PRIORITIES = "0", "1", "2", "3", "4", "5", "6", "7"
LATEST = 253_402_300_800_000_000
"""Microseconds to the year 10000. A line that says it is later is damaged: no clock shows that."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`time`: microseconds since the epoch, by the host's clock. `source`: the unit, else who it says
    it is. `priority`: 0 (the worst) to 7. `cursor`: where it stands in the host's journal."""

    time: int
    host: str
    source: str
    pid: str
    priority: int
    message: str
    cursor: str = ""

    def as_json(self) -> dict[str, Any]:
        """The NDJSON line; `time` in seconds."""
        return {
            "schema_version": 1,
            "event": "log",
            "time": self.time / 1e6,
            "host": self.host,
            "unit": self.source,
            "pid": self.pid,
            "priority": self.priority,
            "message": self.message,
        }


def read(host: str, line: bytes) -> Entry | None:
    """An entry as `journalctl --output=json` prints it; None for what is none."""
    try:
        return _entry(host, json.loads(line))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _entry(host: str, content: dict[str, Any]) -> Entry | None:
    time = int(content["__REALTIME_TIMESTAMP"])
    if not 0 <= time < LATEST:
        return None
    priority = _text(content.get("PRIORITY"))
    return Entry(
        time,
        host,
        _text(content.get("_SYSTEMD_UNIT")) or _text(content.get("SYSLOG_IDENTIFIER")) or "-",
        _text(content.get("_PID")),
        int(priority) if priority in PRIORITIES else INFO,
        _text(content.get("MESSAGE")),
        _text(content.get("__CURSOR")),
    )


def _text(value: Any) -> str:
    """A field as text. journald prints one that is no UTF-8, or has control characters, as a list of
    its bytes; one that a program sent several times, as a list of texts or of such lists. Half of a
    surrogate pair, which JSON can have and UTF-8 cannot, is replaced."""
    if value is None:
        return ""
    if isinstance(value, list):
        if all(isinstance(byte, int) for byte in value):
            return bytes(byte & 0xFF for byte in value).decode(errors="replace")
        return "\n".join(_text(part) for part in value)
    return str(value).encode(errors="replace").decode()
