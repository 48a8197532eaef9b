"""What a run will do, decided before anything is done. Pure: no clock, no hosts, no files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backline.errors import BacklineError
from backline.release.model import Release

ORDER = {"http": 0, "worker": 1, "singleton": 2}


@dataclass(frozen=True)
class Step:
    """One process on one host: replaces `live` by the plan's release, then ends `others`.

    `live` is None where nothing runs yet; `others` are the active instances of other releases.
    """

    host: str
    process: str
    kind: str
    live: str | None
    others: tuple[str, ...]
    stop_timeout: int


@dataclass(frozen=True)
class Plan:
    """A run: where to ship, where to migrate, and the steps in order."""

    app: str
    release: str
    version: str
    action: str
    steps: tuple[Step, ...]
    ship_to: tuple[str, ...]
    migrate_on: str | None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the run, in the order of their turn."""
        return tuple(dict.fromkeys(step.host for step in self.steps))

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that replace something."""
        return tuple(step for step in self.steps if step.live != self.release)

    @property
    def digest(self) -> str:
        """A name for exactly this plan."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def hosts_of(
    release: Release, groups: Mapping[str, Sequence[str]], selected: Sequence[str]
) -> list[str]:
    """The selected hosts that run a process of the release, in the order of the selection.

    Raises BacklineError when the manifest names a group that the inventory lacks, or when no
    selected host is in any of them.
    """
    named = {process.hosts for process in release.processes.values()}
    unknown = sorted(name for name in named if name not in groups and name != "all")
    if unknown:
        raise BacklineError(
            f"{release.app} runs on group {', '.join(unknown)}, which this environment lacks",
            state="nothing was changed",
            hint=f"correct `hosts` in backline.toml; groups here: {', '.join(groups)}",
        )
    members = {host for name in named for host in groups.get(name, selected)}
    found = [host for host in selected if host in members]
    if not found:
        raise BacklineError(
            f"none of the selected hosts runs {release.app}",
            hosts=selected,
            state="nothing was changed",
            hint=f"its processes are on: {', '.join(sorted(named))}",
        )
    return found


def deploy(
    release: Release,
    groups: Mapping[str, Sequence[str]],
    statuses: Mapping[str, Mapping[str, Any]],
) -> Plan:
    """The plan that brings `release` to the hosts of `statuses` (hostctl's answers, in turn order).

    Raises BacklineError when a host lacks a process that the release expects there.
    """
    problems = {
        host: missing
        for host, status in statuses.items()
        if (missing := _missing(release, groups, host, status))
    }
    if problems:
        raise BacklineError(
            "; ".join(f"{host} has no process for {', '.join(m)}" for host, m in problems.items()),
            hosts=problems,
            state="nothing was changed",
            hint=f"build them: fab provision --on {','.join(problems)}",
        )
    steps = _steps(release.id, statuses, _timeouts(release))
    return Plan(
        app=release.app,
        release=release.id,
        version=release.version,
        action="deploy",
        steps=steps,
        ship_to=tuple(host for host, status in statuses.items() if not _has(status, release.id)),
        migrate_on=_migrator(steps) if release.migrations.get("expand") else None,
    )


def rollback(app: str, release: str, statuses: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The plan that brings a release which every host has already back to life."""
    lacking = [host for host, status in statuses.items() if not _has(status, release)]
    if lacking:
        raise BacklineError(
            f"release {release} is no longer, or not yet, on every host",
            hosts=lacking,
            state="nothing was changed",
            hint=f"deploy it: fab deploy --release {release}",
        )
    version = next(
        (
            entry["version"]
            for s in statuses.values()
            for entry in s["releases"]
            if entry["id"] == release
        ),
        "",
    )
    steps = _steps(release, statuses, {})
    return Plan(app, release, str(version), "rollback", steps, ship_to=(), migrate_on=None)


def choose_rollback(statuses: Mapping[str, Mapping[str, Any]], to: str = "") -> str:
    """Which release to go back to: `to`, or the last one marked good before the one that is live.

    Raises BacklineError when there is none.
    """
    if to:
        return to
    live = {
        process["live"] for status in statuses.values() for process in status["processes"].values()
    } - {None}
    orders = [_good(status) for status in statuses.values()]
    for candidate in reversed(orders[0] if orders else []):
        if candidate not in live and all(candidate in order for order in orders):
            return candidate
    raise BacklineError(
        "there is no earlier release that was marked good on every host",
        state=f"nothing was changed; live: {', '.join(sorted(live)) or 'nothing'}",
        hint="name one of those in `fab status --json`: fab rollback --to ID",
    )


def _good(status: Mapping[str, Any]) -> list[str]:
    """The good releases up to the live one, in the order they were marked where the host says so."""
    good = [entry["id"] for entry in status["releases"] if entry["state"] == "good"]
    order = [identity for identity in status.get("good", good) if identity in good]
    current = status.get("current")
    return order[: order.index(current)] if current in order else order


def _has(status: Mapping[str, Any], release: str) -> bool:
    return any(entry["id"] == release for entry in status["releases"])


def _missing(
    release: Release,
    groups: Mapping[str, Sequence[str]],
    host: str,
    status: Mapping[str, Any],
) -> list[str]:
    kinds = {entry["kind"] for entry in status["processes"].values()}
    return sorted(
        name
        for name, process in release.processes.items()
        if (process.hosts == "all" or host in groups[process.hosts]) and process.kind not in kinds
    )


def _timeouts(release: Release) -> dict[str, int]:
    """The longest stop timeout of each kind of process, in seconds."""
    longest: dict[str, int] = {}
    for process in release.processes.values():
        longest[process.kind] = max(longest.get(process.kind, 0), process.stop_timeout)
    return longest


def _steps(
    release: str, statuses: Mapping[str, Mapping[str, Any]], timeouts: Mapping[str, int]
) -> tuple[Step, ...]:
    """Hosts with web processes first, in the given order: their health checks tell the most."""
    found = [
        Step(
            host=host,
            process=name,
            kind=entry["kind"],
            live=entry["live"],
            others=tuple(
                instance["release"]
                for instance in entry["instances"]
                if instance["active"] not in STOPPED and instance["release"] != release
            ),
            stop_timeout=timeouts.get(entry["kind"], 300),
        )
        for host, status in statuses.items()
        for name, entry in status["processes"].items()
    ]
    order = {host: number for number, host in enumerate(statuses)}
    first: dict[str, int] = {}
    for step in found:
        first[step.host] = min(ORDER[step.kind], first.get(step.host, len(ORDER)))
    return tuple(
        sorted(found, key=lambda s: (first[s.host], order[s.host], ORDER[s.kind], s.process))
    )


def _migrator(steps: Sequence[Step]) -> str | None:
    return steps[0].host if steps else None


STOPPED = (False, "inactive", "failed", "dead")
