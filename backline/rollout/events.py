"""What a run tells while it goes: data, for whoever shows or records it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Event:
    """One thing that happened. `kind` names it (a hostctl verb, or plan, progress, warning, done)."""

    kind: str
    host: str | None = None
    process: str | None = None
    release: str | None = None
    text: str = ""
    seconds: float | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self, run: str, time: float) -> dict[str, Any]:
        """The NDJSON line: empty fields are left out, `data` is spread."""
        content = {
            name: value for name in _TOLD if (value := getattr(self, name)) not in (None, "")
        }
        head = {
            "schema_version": SCHEMA_VERSION,
            "event": self.kind,
            "time": round(time, 3),
            "run": run,
        }
        return {**head, **content, **self.data}


_TOLD = ("host", "process", "release", "text", "seconds")


Report = Callable[[Event], None]
