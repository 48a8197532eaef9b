"""From what hosts say to a plan, before anything is done. Pure: no clock, no hosts, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backline.errors import BacklineError, Exit
from backline.release.model import Release
from backline.rollout import strategy as strategies
from backline.rollout.plan import Plan, Shipment, Step
from backline.rollout.strategy import Strategy

ORDER = {"http": 0, "worker": 1, "singleton": 2}


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
    strategy: Strategy | None = None,
    *,
    zones: Mapping[str, str | None] | None = None,
    patches: Mapping[str, int] | None = None,
    left_out: Sequence[str] = (),
) -> Plan:
    """The plan that brings `release` to the hosts of `statuses` (hostctl's answers, in turn order).

    `patches`: the size of the patch against each release for which there is one. Raises
    BacklineError when a host lacks a process that the release expects there, or when a process that
    may run only once would run on several hosts.
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
    strategy = strategy or Strategy()
    steps = _steps(release.id, statuses, _timeouts(release), list(release.processes))
    _refuse_two_singletons(steps)
    return Plan(
        app=release.app,
        release=release.id,
        version=release.version,
        action="deploy",
        steps=steps,
        batches=_batches(steps, strategy, zones or {}),
        shipments=_shipments(release, statuses, patches or {}),
        migrate_on=_migrator(steps) if release.migrations.get("expand") else None,
        strategy=strategy,
        left_out=tuple(left_out),
        known_good=any(release.id in status.get("good", ()) for status in statuses.values()),
        were_good=_were_good(steps, statuses),
    )


def rollback(
    app: str,
    release: str,
    statuses: Mapping[str, Mapping[str, Any]],
    strategy: Strategy = strategies.ZERO_WAIT,
) -> Plan:
    """The plan that brings a release which every host has already back to life, everywhere at once."""
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
    batches = _batches(steps, strategy, {})
    return Plan(
        app=app,
        release=release,
        version=str(version),
        action="rollback",
        steps=steps,
        batches=batches,
        shipments=(),
        migrate_on=None,
        strategy=strategy,
        known_good=True,
        were_good=_were_good(steps, statuses),
    )


def _were_good(steps: Sequence[Step], statuses: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    good = {entry for status in statuses.values() for entry in status.get("good", ())}
    return tuple(sorted(good & {step.live for step in steps if step.live}))


def bases(statuses: Mapping[str, Mapping[str, Any]], release: str) -> set[str]:
    """The releases against which a patch would be useful: what each host without it has best."""
    return {
        candidates[0]
        for status in statuses.values()
        if not _has(status, release) and (candidates := _candidates(status))
    }


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
    release: str,
    statuses: Mapping[str, Mapping[str, Any]],
    timeouts: Mapping[str, int],
    processes: Sequence[str] | None = None,
) -> tuple[Step, ...]:
    """Hosts with web processes first, in the given order: their health checks tell the most.

    `processes` are those of the release; where None, each host says which it has of them.
    """
    found = [
        Step(
            host=host,
            process=name,
            kind=entry["kind"],
            live=entry["live"],
            stop_timeout=timeouts.get(entry["kind"], 300),
            ends=_ends(status, entry, release, processes),
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


def _ends(
    status: Mapping[str, Any],
    entry: Mapping[str, Any],
    release: str,
    processes: Sequence[str] | None,
) -> bool:
    """Whether the release has no such process; False where a host cannot say which one it is."""
    if processes is None:
        known = {e["id"]: e.get("processes") for e in status["releases"]}
        processes = known.get(release)
    return processes is not None and "process" in entry and entry["process"] not in processes


def _migrator(steps: Sequence[Step]) -> str | None:
    return steps[0].host if steps else None


def _refuse_two_singletons(steps: Sequence[Step]) -> None:
    hosts: dict[str, list[str]] = {}
    for step in steps:
        if step.kind == "singleton":
            hosts.setdefault(step.process, []).append(step.host)
    for process, found in hosts.items():
        if len(found) > 1:
            raise BacklineError(
                f"{process} may run only once, and {', '.join(found)} each have it",
                hosts=found,
                state="nothing was changed",
                hint="give it to one host in the inventory, then: fab provision",
                exit_code=Exit.GUARD_REFUSED,
            )


def _batches(
    steps: Sequence[Step], strategy: Strategy, zones: Mapping[str, str | None]
) -> tuple[tuple[str, ...], ...]:
    """The strategy's batches, cut further where one has more of a process than the floor allows."""
    processes: dict[str, list[str]] = {}
    totals: dict[str, int] = {}
    for step in steps:
        processes.setdefault(step.host, []).append(step.process)
        totals[step.process] = totals.get(step.process, 0) + 1
    most = {process: strategy.most_at_once(total) for process, total in totals.items()}
    found: list[tuple[str, ...]] = []
    for batch in strategies.cut(list(processes), strategy, zones):
        part: list[str] = []
        counts: dict[str, int] = {}
        for host in batch:
            if any(counts.get(process, 0) >= most[process] for process in processes[host]):
                found.append(tuple(part))
                part, counts = [], {}
            part.append(host)
            for process in processes[host]:
                counts[process] = counts.get(process, 0) + 1
        found.append(tuple(part))
    return tuple(found)


def _shipments(
    release: Release, statuses: Mapping[str, Mapping[str, Any]], patches: Mapping[str, int]
) -> tuple[Shipment, ...]:
    found = []
    for host, status in statuses.items():
        if _has(status, release.id):
            continue
        base = next((entry for entry in _candidates(status)[:1] if entry in patches), None)
        size = patches[base] if base else release.archive.zst_size
        found.append(Shipment(host, base, size))
    return tuple(found)


def _candidates(status: Mapping[str, Any]) -> list[str]:
    """The releases of a host that a patch can start from, the likeliest to be close first."""
    there = [entry["id"] for entry in status["releases"] if entry.get("tar")]
    current = status.get("current")
    return sorted(there, key=lambda entry: (entry == current, entry), reverse=True)
