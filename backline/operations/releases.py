"""Which releases the hosts have, which of them is live, warm or good, and which lie here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backline.operations.status import Row


@dataclass
class Kept:
    """One release of one app.

    `states`: what each host calls it (staged, good, bad, contracted). `live`: where it serves;
    `warm`: where it still runs behind the live one, so that a rollback takes no start. `here`: it
    lies in this controller's dist/; `trouble` is why that copy cannot be used.
    """

    app: str
    id: str
    version: str | None = None
    states: dict[str, str] = field(default_factory=dict)
    live: list[str] = field(default_factory=list)
    warm: list[str] = field(default_factory=list)
    here: bool = False
    trouble: str = ""

    @property
    def cold(self) -> list[str]:
        """Hosts that have it and run nothing of it."""
        return [host for host in self.states if host not in {*self.live, *self.warm}]

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "release",
            "app": self.app,
            "release": self.id,
            "version": self.version,
            "states": self.states,
            "live": self.live,
            "warm": self.warm,
            "here": self.here,
            "trouble": self.trouble or None,
        }


@dataclass(frozen=True)
class Lying:
    """A release in dist/: its app and version, or why it cannot be read."""

    app: str = ""
    version: str | None = None
    trouble: str = ""


def releases(rows: Iterable[Row], lying: Mapping[str, Lying], app: str = "") -> list[Kept]:
    """All releases of all apps, or of one, the newest first; `lying` are those in dist/ by ID."""
    found: dict[tuple[str, str], Kept] = {}
    for row in rows:
        if row.app is not None and row.app == (app or row.app):
            _add(found, row, row.app)
    for name, release in lying.items():
        owners = {key[0] for key in found if key[1] == name} or {release.app}
        for owner in owners:
            if app in ("", owner):
                kept = found.setdefault((owner, name), Kept(owner, name, release.version))
                kept.here, kept.trouble = True, release.trouble
    return sorted(found.values(), key=lambda kept: (kept.id, kept.app), reverse=True)


def newest(found: Iterable[Kept], limit: int) -> tuple[list[Kept], int]:
    """Those that any host has, and `limit` of the others (0: all); how many that leaves out."""
    shown: list[Kept] = []
    only_here = 0
    for kept in found:
        only_here += not kept.states
        if kept.states or not limit or only_here <= limit:
            shown.append(kept)
    return shown, max(0, only_here - limit) if limit else 0


def _add(found: dict[tuple[str, str], Kept], row: Row, app: str) -> None:
    processes = (row.processes or {}).values()
    live = {row.current, *(process["live"] for process in processes)}
    runs = {
        entry["release"]
        for process in processes
        for entry in process["instances"]
        if entry["active"] == "active"
    }
    for entry in row.releases:
        name = str(entry["id"])
        kept = found.setdefault((app, name), Kept(app, name))
        kept.version = kept.version or entry.get("version")
        kept.states[row.host] = str(entry.get("state") or "staged")
        if name in live:
            kept.live.append(row.host)
        elif name in runs:
            kept.warm.append(row.host)
