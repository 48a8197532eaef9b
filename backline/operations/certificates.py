"""Every certificate of every host, and how long it is good for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backline.operations.vitals import DAY
from backline.transport.port import Answer, Fleet, HostError

DEADLINE = 25.0
TOO_OLD = ("unknown_verb", "unknown_field")


@dataclass(frozen=True)
class Entry:
    """A certificate on a host. `days` it has left (None: it cannot be read, `trouble` says why).

    `name`: host and ca are the internal ones, edge is what listeners are shown, acme what certbot has.
    """

    host: str
    name: str
    path: str
    subject: str = ""
    issuer: str = ""
    not_after: float = 0.0
    days: float | None = None
    sha256: str = ""
    trouble: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "certificate",
            **vars(self),
            "not_after": self.not_after if self.days is not None else None,
            "trouble": self.trouble or None,
        }


@dataclass(frozen=True)
class View:
    """What the hosts have, those that end first first; `silent` are hosts that cannot tell."""

    entries: tuple[Entry, ...]
    silent: tuple[HostError, ...]

    def ending(self, days: float) -> list[Entry]:
        """Those that have fewer days left, or cannot be read."""
        return [entry for entry in self.entries if entry.days is None or entry.days < days]


def collect(fleet: Fleet, hosts: Iterable[str]) -> View:
    """Asks all hosts at once; never raises for one that does not answer."""

    def ask(host: str) -> list[Entry]:
        return entries(host, fleet.call(host, "certificates", {}, deadline=DEADLINE))

    found: list[Entry] = []
    silent = []
    for host, outcome in fleet.each(hosts, ask, deadline=DEADLINE).items():
        found += outcome.value or []
        if outcome.error is not None:
            silent.append(_explained(host, outcome.error))
    found.sort(
        key=lambda entry: (entry.days is not None, entry.days or 0, entry.sha256, entry.name)
    )
    return View(tuple(found), tuple(silent))


def entries(host: str, answer: Answer) -> list[Entry]:
    """The certificates in an answer; days are counted by the host's own clock."""
    return [_entry(host, told, float(answer["time"])) for told in answer["certificates"]]


def _entry(host: str, told: dict[str, Any], now: float) -> Entry:
    place = (host, str(told["name"]), str(told["path"]))
    if told.get("not_after") is None:
        return Entry(*place, trouble=str(told.get("trouble") or "it does not say when it ends"))
    ends = float(told["not_after"])
    return Entry(
        *place,
        subject=str(told.get("subject") or ""),
        issuer=str(told.get("issuer") or ""),
        not_after=ends,
        days=round((ends - now) / DAY, 2),
        sha256=str(told.get("sha256") or ""),
    )


def _explained(host: str, error: HostError) -> HostError:
    if error.code not in TOO_OLD:
        return error
    return HostError(
        host,
        "its hostctl is too old to tell of certificates",
        code="too_old",
        hint=f"fab provision --on {host} --tags hostctl",
    )
