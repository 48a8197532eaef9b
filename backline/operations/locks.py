"""Who holds the lease of an app, where, and until when; from the rows of the fleet. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from backline.operations.status import Row

OF_ANSIBLE = ("patch-", "rotate-", "leave-")
"""How runs of playbooks are called: they take a lease for as long as they may need, and renew none."""


@dataclass
class Held:
    """The lease of one run: each host's token of it. `ends_in`: seconds until the last host's ends by
    itself. `unfinished`: hosts on which the run has not ended."""

    app: str
    run: str
    holder: str
    ends_in: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "lease",
            "app": self.app,
            "run": self.run,
            "holder": self.holder,
            "ends_in": self.ends_in,
            "hosts": list(self.tokens),
            "unfinished": self.unfinished,
        }


@dataclass
class Left:
    """A run that has not ended and that nobody works on."""

    app: str
    run: str
    hosts: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "unfinished", **vars(self)}


def held(rows: Iterable[Row]) -> list[Held]:
    """The live leases, by app and run."""
    rows = list(rows)
    found: dict[tuple[str, str], Held] = {}
    for row in rows:
        if row.app and row.lease:
            app, run = row.app, str(row.lease["run"])
            lease = found.setdefault(
                (app, run), Held(app, run, str(row.lease.get("holder") or "?"))
            )
            lease.tokens[row.host] = int(row.lease["token"])
            lease.ends_in = max(lease.ends_in, float(row.lease["expires_in"]))
    for row in rows:
        key = (row.app or "", row.unfinished or "")
        if key in found:
            found[key].unfinished.append(row.host)
    return [found[key] for key in sorted(found)]


def left(rows: Iterable[Row]) -> list[Left]:
    """The runs that are unfinished while nobody holds a lease of theirs on any host."""
    rows = list(rows)
    alive = {(lease.app, lease.run) for lease in held(rows)}
    found: dict[tuple[str, str], Left] = {}
    for row in rows:
        key = (row.app or "", row.unfinished or "")
        if row.unfinished and key not in alive:
            found.setdefault(key, Left(*key)).hosts.append(row.host)
    return [found[key] for key in sorted(found)]
