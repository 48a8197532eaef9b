"""What a run tells while it goes: data, for whoever shows or records it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
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
        content = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        data = content.pop("data")
        kind = content.pop("kind")
        head = {"schema_version": SCHEMA_VERSION, "event": kind, "time": round(time, 3), "run": run}
        return {**head, **content, **data}


Report = Callable[[Event], None]
