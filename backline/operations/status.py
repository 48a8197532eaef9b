"""What runs where: one row per host and app, also for hosts that do not answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backline.transport.port import Answer, Fleet, HostError, Unreachable

DEADLINE = 25.0


@dataclass(frozen=True)
class Row:
    """One host's state. `error` says why it could not be asked; then the rest is empty.

    `unfinished`: a run that has not ended here. `quarantine`: why the host was left behind, if so.
    """

    host: str
    groups: tuple[str, ...] = ()
    app: str | None = None
    current: str | None = None
    version: str | None = None
    state: str | None = None
    processes: Mapping[str, Mapping[str, Any]] | None = None
    releases: tuple[Mapping[str, Any], ...] = ()
    lease: Mapping[str, Any] | None = None
    drained: bool = False
    error: str | None = None
    hint: str | None = None
    reachable: bool = True
    unfinished: str | None = None
    quarantine: Mapping[str, Any] | None = None

    @property
    def troubles(self) -> list[str]:
        """What somebody on call should see: live processes that do not run, second instances."""
        found = []
        for name, process in (self.processes or {}).items():
            active = {entry["release"]: entry["active"] for entry in process["instances"]}
            live = process["live"]
            if live and active.get(live) != "active":
                found.append(f"{name} is {active.get(live, 'not running')}")
            warm = process.get("previous") if process.get("kind") == "http" else None
            extra = [release for release in active if release not in (live, warm)]
            if extra:
                found.append(f"{name} also runs {', '.join(extra)}")
        if self.quarantine is not None:
            found.append(f"in quarantine: {self.quarantine.get('why')}")
        if self.unfinished and not self.lease:
            found.append(f"run {self.unfinished} is not finished")
        return found

    def as_json(self) -> dict[str, Any]:
        """The NDJSON line; `current` is absent where no app runs."""
        content: dict[str, Any] = {"schema_version": 1, "host": self.host, "groups": self.groups}
        if self.error is not None:
            return {**content, "reachable": self.reachable, "error": self.error}
        content |= {"reachable": True, "drained": self.drained}
        if self.app is not None:
            content |= {
                "app": self.app,
                "current": self.current,
                "version": self.version,
                "state": self.state,
                "processes": self.processes,
                "releases": self.releases,
                "lease": self.lease,
                "troubles": self.troubles,
                "unfinished": self.unfinished,
                "quarantine": self.quarantine,
            }
        return content


def collect(fleet: Fleet, hosts: Iterable[str], groups: Mapping[str, tuple[str, ...]]) -> list[Row]:
    """Asks all hosts at once; rows in the hosts' order. Never raises for a host's trouble."""

    def ask(host: str) -> tuple[Answer, dict[str, Answer]]:
        facts = fleet.call(host, "facts", {}, deadline=DEADLINE)
        return facts, {
            app: fleet.call(host, "status", {"app": app}, deadline=DEADLINE)
            for app in sorted(facts["apps"])
        }

    rows: list[Row] = []
    away: dict[str, Any] = {}
    for host, outcome in fleet.each(hosts, ask, deadline=DEADLINE).items():
        if outcome.value is None:
            rows.append(failed(host, groups.get(host, ()), outcome.error))
        else:
            facts, statuses = outcome.value
            for status in statuses.values():
                away |= status.get("quarantine") or {}
            rows += rows_of(host, groups.get(host, ()), facts, statuses)
    return [
        replace(row, quarantine=away.get(row.host)) if row.host in away else row for row in rows
    ]


def failed(host: str, groups: tuple[str, ...], error: HostError | None) -> Row:
    """The row of a host that did not answer, or answered that it cannot."""
    if error is None:
        return Row(host, groups, error="no answer", reachable=False)
    reachable = not isinstance(error, Unreachable)
    return Row(host, groups, error=error.message, hint=error.hint, reachable=reachable)


def rows_of(
    host: str, groups: tuple[str, ...], facts: Answer, statuses: Mapping[str, Answer]
) -> list[Row]:
    """The rows of a host that answered: one per app, or one without an app."""
    drained = bool(facts.get("drained"))
    if not statuses:
        return [Row(host, groups, drained=drained)]
    return [_row(host, groups, drained, app, status) for app, status in statuses.items()]


def _row(host: str, groups: tuple[str, ...], drained: bool, app: str, status: Answer) -> Row:
    known = {entry["id"]: entry for entry in status["releases"]}
    current = known.get(status["current"], {})
    return Row(
        host=host,
        groups=groups,
        app=app,
        current=status["current"],
        version=current.get("version"),
        state=current.get("state"),
        processes=status["processes"],
        releases=tuple(status["releases"]),
        lease=status["lease"],
        drained=drained,
        unfinished=_unfinished(status),
    )


def _unfinished(status: Answer) -> str | None:
    run = status.get("run")
    return str(run["run"]) if run and not run.get("ended") else None


def is_mixed(rows: Iterable[Row]) -> dict[str, set[str | None]]:
    """The apps of which different hosts run different releases, and which those are."""
    found: dict[str, set[str | None]] = {}
    for row in rows:
        if row.app is not None:
            found.setdefault(row.app, set()).add(row.current)
    return {app: releases for app, releases in found.items() if len(releases) > 1}
