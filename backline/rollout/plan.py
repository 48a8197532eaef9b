"""What a run will do, decided before anything is done. Pure: no clock, no hosts, no files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from backline.errors import BacklineError, Exit
from backline.release.model import Release
from backline.rollout import strategy as strategies
from backline.rollout.strategy import Strategy
from backline.selection import fold

ORDER = {"http": 0, "worker": 1, "singleton": 2}


@dataclass(frozen=True)
class Step:
    """One process on one host: replaces `live` by the plan's release.

    `live` is None where nothing runs yet. `ends`: the plan's release has no such process, so what
    runs of it is stopped.
    """

    host: str
    process: str
    kind: str
    live: str | None
    stop_timeout: int
    ends: bool = False


@dataclass(frozen=True)
class Shipment:
    """What one host is sent: a patch against `base`, or (None) the whole archive. `size`: bytes."""

    host: str
    base: str | None
    size: int


@dataclass(frozen=True)
class Plan:
    """A run: what is sent to whom, where to migrate, and the steps of each host, batch by batch.

    `left_out` are hosts that the operator or an earlier run put into quarantine, `freed` those that
    this run brings out of it.
    """

    app: str
    release: str
    version: str
    action: str
    steps: tuple[Step, ...]
    batches: tuple[tuple[str, ...], ...]
    shipments: tuple[Shipment, ...]
    migrate_on: str | None
    strategy: Strategy
    left_out: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the run, in the order of their turn."""
        return tuple(dict.fromkeys(step.host for step in self.steps))

    @cached_property
    def by_host(self) -> dict[str, tuple[Step, ...]]:
        """Each host's steps, in their order."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.host, []).append(step)
        return {host: tuple(steps) for host, steps in found.items()}

    @cached_property
    def sent(self) -> dict[str, Shipment]:
        """What each host is sent."""
        return {shipment.host: shipment for shipment in self.shipments}

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Each host's turn and the number of its batch."""
        turns = {host: turn for turn, host in enumerate(self.hosts)}
        return {host: (turns[host], n) for n, batch in enumerate(self.batches) for host in batch}

    @cached_property
    def _folded(self) -> str:
        return fold(self.hosts)

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that replace something."""
        return tuple(step for step in self.steps if step.live != self.release)

    @property
    def ship_to(self) -> tuple[str, ...]:
        """The hosts that lack the release."""
        return tuple(shipment.host for shipment in self.shipments)

    @cached_property
    def digest(self) -> str:
        """A name for exactly this plan; how many bytes a patch has is no part of it."""
        data = self.as_data()
        for shipment in data["shipments"]:
            del shipment["size"]
        return hashlib.sha256(_canonical(data).encode()).hexdigest()[:12]

    def as_data(self) -> dict[str, Any]:
        """As JSON has it; `from_data` reads it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    def part(self, host: str) -> dict[str, Any]:
        """What `host` keeps of the plan: with every host's part it can be put together again."""
        return {
            "digest": self.digest,
            "hosts": self._folded,
            "batch": self._places[host][1],
            "turn": self._places[host][0],
            "steps": [asdict(step) for step in self.by_host[host]],
            "shipment": asdict(self.sent[host]) if host in self.sent else None,
            **{name: getattr(self, name) for name in _SHARED},
            "strategy": self.strategy.as_data(),
        }


_SHARED = ("app", "release", "version", "action", "migrate_on", "left_out", "freed")
_LISTS = ("left_out", "freed")


def from_data(data: Mapping[str, Any]) -> Plan:
    """The plan that `as_data` gave. Raises KeyError or TypeError for anything else."""
    shared: dict[str, Any] = {
        name: tuple(data[name]) if name in _LISTS else data[name] for name in _SHARED
    }
    return Plan(
        **shared,
        steps=tuple(_step(entry) for entry in data["steps"]),
        batches=tuple(tuple(batch) for batch in data["batches"]),
        shipments=tuple(Shipment(**entry) for entry in data["shipments"]),
        strategy=strategies.read(data["strategy"]),
    )


def from_parts(parts: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The plan of which hosts keep these parts, for these hosts alone if some are missing."""
    order = sorted(parts, key=lambda host: parts[host]["turn"])
    first = parts[order[0]]
    batches: dict[int, list[str]] = {}
    for host in order:
        batches.setdefault(parts[host]["batch"], []).append(host)
    return from_data(
        {
            **{name: first[name] for name in _SHARED},
            "strategy": first["strategy"],
            "steps": [entry for host in order for entry in parts[host]["steps"]],
            "shipments": [parts[h]["shipment"] for h in order if parts[h]["shipment"]],
            "batches": [batches[number] for number in sorted(batches)],
        }
    )


def _step(entry: Mapping[str, Any]) -> Step:
    return Step(**entry)


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


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
    return Plan(app, release, str(version), "rollback", steps, batches, (), None, strategy)


def the_live_release(statuses: Mapping[str, Mapping[str, Any]]) -> str:
    """What all of these hosts run. Raises BacklineError when they differ."""
    live = {
        process["live"] for status in statuses.values() for process in status["processes"].values()
    }
    if len(live) == 1 and None not in live:
        return str(live.pop())
    raise BacklineError(
        f"the other hosts run {', '.join(sorted(map(str, live))) or 'nothing'}: "
        "it is not clear what these should get",
        hosts=statuses,
        state="nothing was changed",
        hint="bring the fleet to one release first: fab deploy, or fab rollback",
        exit_code=Exit.GUARD_REFUSED,
    )


def guard_schema(
    statuses: Mapping[str, Mapping[str, Any]], release: str, accept: bool = False
) -> None:
    """Refuses a release that is older than one whose contract migrations have run.

    Those took away what it may need. IDs are minted in order, so they compare. Raises BacklineError.
    """
    contracted = {entry for status in statuses.values() for entry in status.get("contracted", ())}
    newer = sorted(entry for entry in contracted if entry > release)
    if newer and not accept:
        raise BacklineError(
            f"the contract migrations of {newer[-1]} have run: {release} may miss what they took away",
            state="nothing was changed",
            hint="go to a newer release, or, if you know that it works, add --accept-schema",
            exit_code=Exit.GUARD_REFUSED,
        )


def bases(statuses: Mapping[str, Mapping[str, Any]], release: str) -> set[str]:
    """The releases against which a patch would be useful: what each host without it has best."""
    return {
        candidates[0]
        for status in statuses.values()
        if not _has(status, release) and (candidates := _candidates(status))
    }


def serving(plan: Plan, out: Sequence[str]) -> str | None:
    """The process of which fewer hosts than the floor would serve without the hosts `out`, or None."""
    counts: dict[str, list[str]] = {}
    for step in plan.steps:
        counts.setdefault(step.process, []).append(step.host)
    for process, hosts in counts.items():
        left = sum(host not in out for host in hosts)
        # What must keep out of one batch must also stay when hosts fail.
        if left < len(hosts) and left < len(hosts) - plan.strategy.most_at_once(len(hosts)):
            return process
    return None


def choose_rollback(statuses: Mapping[str, Mapping[str, Any]], to: str = "") -> str:
    """Which release to go back to: `to`, or the last one marked good before the one that is live.

    Raises BacklineError when there is none.
    """
    if to:
        bad = [h for h, s in statuses.items() if _state(s, to) == "bad"]
        if bad:
            raise BacklineError(
                f"release {to} was marked bad",
                hosts=bad,
                state="nothing was changed",
                hint=f"choose another, or roll it out again: fab deploy --release {to}",
                exit_code=Exit.GUARD_REFUSED,
            )
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


def _state(status: Mapping[str, Any], release: str) -> str | None:
    return next((e["state"] for e in status["releases"] if e["id"] == release), None)


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


STOPPED = (False, "inactive", "failed", "dead")
