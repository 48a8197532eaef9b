"""What runs where: one row per host and app, also for hosts that do not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.operations.vitals import Vitals, vitals_of
from backline.transport.port import Answer, Fleet, HostError, Outcome, Unreachable

DEADLINE = 25.0
ANSWERS = "are they up? `fab doctor` looks closer"


@dataclass(frozen=True)
class Row:
    """One host's state. `error` says why it could not be asked; then the rest is empty, but `quarantine`.

    `drained_by`: the run that drained it, if that is known. `upkeep`: the restart, reboot or patch
    that has begun here and not ended. `unfinished`: a run that has not ended here. `quarantine`: why
    the host was left behind, if so.
    `vitals`: None when its hostctl is too old to tell them. `trouble`: why an app cannot be told of.
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
    drained_by: str | None = None
    upkeep: str | None = None
    error: str | None = None
    hint: str | None = None
    reachable: bool = True
    unfinished: str | None = None
    quarantine: Mapping[str, Any] | None = None
    hostctl: str | None = None
    vitals: Vitals | None = None
    trouble: str | None = None

    @property
    def running(self) -> tuple[int, int]:
        """How many processes run their live release and are not ill, and how many have one."""
        live = [process for process in (self.processes or {}).values() if process["live"]]
        return sum(_ill(process) is None for process in live), len(live)

    @property
    def troubles(self) -> list[str]:
        """What somebody on call should see: live processes that do not run, second instances, and
        what the host itself lacks."""
        found = [self.trouble] if self.trouble else []
        for name, process in (self.processes or {}).items():
            active = {entry["release"]: entry["active"] for entry in process["instances"]}
            live = process["live"]
            if live and (ill := _ill(process)):
                found.append(f"{name} is {ill}")
            warm = process.get("previous") if process.get("kind") == "http" else None
            extra = [release for release in active if release not in (live, warm)]
            if extra:
                found.append(f"{name} also runs {', '.join(extra)}")
        found += self.left_behind
        if self.unfinished and not self.lease:
            found.append(f"run {self.unfinished} is not finished")
        if self.upkeep:
            found.append(
                f"{self.upkeep} is at work, or ended half way: then the same command again"
            )
        return found + (self.vitals.troubles if self.vitals else [])

    @property
    def left_behind(self) -> list[str]:
        """That deploys leave it out, and why: the others know, also when it does not answer itself."""
        return [] if self.quarantine is None else [f"in quarantine: {self.quarantine.get('why')}"]

    def as_json(self) -> dict[str, Any]:
        """The NDJSON line; `current` is absent where no app runs."""
        content: dict[str, Any] = {"schema_version": 1, "host": self.host, "groups": self.groups}
        if self.error is not None:
            content |= {"reachable": self.reachable, "error": self.error}
            return {**content, "quarantine": self.quarantine}
        content |= {
            "reachable": True,
            "drained": self.drained,
            "drained_by": self.drained_by,
            "upkeep": self.upkeep,
            "hostctl": self.hostctl,
            "vitals": self.vitals.raw if self.vitals else None,
            "troubles": self.troubles,
        }
        if self.app is not None:
            content |= {
                "app": self.app,
                "current": self.current,
                "version": self.version,
                "state": self.state,
                "processes": self.processes or {},
                "releases": self.releases,
                "lease": self.lease,
                "unfinished": self.unfinished,
                "quarantine": self.quarantine,
            }
        return content


def collect(
    fleet: Fleet,
    hosts: Iterable[str],
    groups: Mapping[str, tuple[str, ...]],
    deadline: float = DEADLINE,
    done: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Asks all hosts at once; rows in the hosts' order. Never raises for a host's trouble.

    `done` is told the rows of each host as it answers, in the caller's thread.
    """

    def rows(host: str, outcome: Outcome[Answer]) -> list[Row]:
        if outcome.value is None:
            return [failed(host, groups.get(host, ()), outcome.error)]
        return rows_of(host, groups.get(host, ()), outcome.value)

    outcomes = fleet.each(
        hosts,
        lambda host: _ask(fleet, host, deadline),
        deadline=deadline,
        done=lambda host, outcome: done(rows(host, outcome)),
    )
    away: dict[str, Any] = {}
    for outcome in outcomes.values():
        for status in (outcome.value or {}).get("statuses", {}).values():
            away |= status.get("quarantine") or {}
    return [
        replace(row, quarantine=away.get(row.host)) if row.host in away else row
        for host, outcome in outcomes.items()
        for row in rows(host, outcome)
    ]


def _ask(fleet: Fleet, host: str, deadline: float) -> Answer:
    """The whole picture in one question; of a hostctl that does not know it, what it does know."""
    try:
        facts = fleet.call(host, "facts", {"wide": True}, deadline=deadline)
    except HostError as error:
        if error.code != "unknown_field":
            raise
        facts = fleet.call(host, "facts", {}, deadline=deadline)
    if "statuses" not in facts:
        facts = {
            **facts,
            "statuses": {
                app: fleet.call(host, "status", {"app": app}, deadline=deadline)
                for app in sorted(facts["apps"])
            },
        }
    return facts


def failed(host: str, groups: tuple[str, ...], error: HostError | None) -> Row:
    """The row of a host that did not answer, or answered that it cannot."""
    if error is None:
        return Row(host, groups, error="no answer", reachable=False)
    reachable = not isinstance(error, Unreachable)
    return Row(host, groups, error=error.message, hint=error.hint, reachable=reachable)


def rows_of(host: str, groups: tuple[str, ...], facts: Answer) -> list[Row]:
    """The rows of a host that answered: one per app, or one without an app."""
    bare = Row(
        host,
        groups,
        drained=bool(facts.get("drained")),
        drained_by=facts.get("drained_by"),
        upkeep=facts.get("upkeep"),
        hostctl=facts.get("hostctl"),
        vitals=vitals_of(facts),
    )
    statuses: Mapping[str, Answer] = facts["statuses"]
    return [_row(bare, app, status) for app, status in sorted(statuses.items())] or [bare]


def _row(bare: Row, app: str, status: Answer) -> Row:
    if "trouble" in status:
        return replace(bare, app=app, trouble=f"{app}: {status['trouble']}")
    known = {entry["id"]: entry for entry in status["releases"]}
    current = known.get(status["current"], {})
    return replace(
        bare,
        app=app,
        current=status["current"],
        version=current.get("version"),
        state=current.get("state"),
        processes=status["processes"],
        releases=tuple(status["releases"]),
        lease=status["lease"],
        unfinished=_unfinished(status),
    )


def _ill(process: Mapping[str, Any]) -> str | None:
    """What is wrong with the live release of a process, or None."""
    active = {entry["release"]: entry["active"] for entry in process["instances"]}
    state = active.get(process["live"], "not running")
    if state != "active":
        return str(state)
    health = process.get("health") or {"ok": True}
    return None if health["ok"] else f"ill: {health.get('detail') or health.get('status')}"


def _unfinished(status: Answer) -> str | None:
    run = status.get("run")
    return str(run["run"]) if run and not run.get("ended") else None


def silent(rows: Iterable[Row]) -> dict[str, str]:
    """The hosts that did not answer, and why."""
    return {row.host: row.error for row in rows if row.error is not None}


def require_all(rows: Sequence[Row], state: str = "") -> None:
    """Raises BacklineError naming the hosts that did not answer, if any. `state`: what follows."""
    dead = silent(rows)
    if dead:
        raise BacklineError(
            wording.silent(dead, len({row.host for row in rows})),
            hosts=dead,
            state=state,
            hint=next((row.hint for row in rows if row.error is not None and row.hint), ANSWERS),
        )


def unanswered(errors: Mapping[str, HostError], asked: int, also: str = "") -> BacklineError:
    """Why nothing was begun: hosts of `asked` that did not answer. `also`: what the others said."""
    message = wording.silent({host: error.message for host, error in errors.items()}, asked)
    return BacklineError(
        f"{also}; {message}" if also else message,
        hosts=errors,
        state="nothing was changed",
        hint=next((error.hint for error in errors.values() if error.hint), ANSWERS),
    )


def is_mixed(rows: Iterable[Row]) -> dict[str, set[str | None]]:
    """The apps of which different hosts run different releases, and which those are."""
    found: dict[str, set[str | None]] = {}
    for row in rows:
        if row.app is not None:
            found.setdefault(row.app, set()).add(row.current)
    return {app: releases for app, releases in found.items() if len(releases) > 1}
