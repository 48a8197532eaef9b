"""A fleet in memory that behaves like hostctl, refuses like hostctl, and fails on command.

Every call also checks what must never happen, whatever the controller does: a listener on an
unhealthy process, two live leases, two instances of a singleton, the last host without a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Any

from backline.transport.port import HostError, Outcome, Unreachable

KINDS = {"web": "http", "plays": "worker", "mail": "worker", "beat": "singleton"}


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def wait(self, event: Flag, seconds: float) -> bool:
        return event.wait(10)


@dataclass
class FakeHost:
    """What one host has and runs."""

    name: str
    processes: tuple[str, ...]
    live: dict[str, str] = field(default_factory=dict)
    running: dict[str, set[str]] = field(default_factory=dict)
    checked: set[tuple[str, str]] = field(default_factory=set)
    staged: dict[str, str] = field(default_factory=dict)
    good: list[str] = field(default_factory=list)
    migrated: set[str] = field(default_factory=set)
    lease: tuple[str, int] | None = None
    fence: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong: on `host` (or any) at the `nth` call of `verb` (for `release`, if given).

    `effect`: a hostctl error code, `unreachable` (not done), or `lost` (done, but no answer comes).
    `forever` keeps the host dead from then on.
    """

    verb: str
    effect: str
    host: str | None = None
    release: str | None = None
    nth: int = 1
    forever: bool = False
    hits: int = 0

    def strikes(self, host: str, verb: str, fields: Mapping[str, Any]) -> bool:
        release = fields.get("release", fields.get("to"))
        if self.verb not in (verb, "*") or self.host not in (host, None):
            return False
        if self.release not in (release, None):
            return False
        self.hits += 1
        return self.hits == self.nth


class FakeFleet:
    """Implements transport.port.Fleet without a network, one host after the other."""

    def __init__(self, hosts: Iterable[FakeHost], clock: FakeClock | None = None) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.clock = clock or FakeClock()
        self.faults: list[Fault] = []
        self.dead: set[str] = set()
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.shipped: list[tuple[str, str]] = []
        self.discarded: list[str] = []
        self.before_call: Callable[[str, str], None] = lambda host, verb: None

    # The port.

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> dict[str, Any]:
        self.calls.append((host, verb, dict(fields)))
        self.before_call(host, verb)
        if host in self.dead:
            raise Unreachable(host, "no answer", code="timeout")
        fault = next((f for f in self.faults if f.strikes(host, verb, fields)), None)
        if fault is not None:
            if fault.forever:
                self.dead.add(host)
            if fault.effect == "unreachable":
                raise Unreachable(host, "no answer", code="timeout")
            if fault.effect == "interrupt":
                raise KeyboardInterrupt
            if fault.effect != "lost":
                code = 6 if fault.effect in ("bad_signature", "bad_digest", "stale_token") else 1
                raise HostError(host, fault.effect, code=fault.effect, exit_code=code)
        answer = getattr(self, f"_{verb}")(self.hosts[host], fields)
        self._invariants()
        if fault is not None:
            raise Unreachable(host, "connection lost", code="lost")
        return {"ok": True, **answer}

    def ship(self, host: str, files: Sequence[Path], progress: Any) -> None:
        self.calls.append((host, "ship", {}))
        fault = next((f for f in self.faults if f.strikes(host, "ship", {})), None)
        if fault or host in self.dead:
            raise Unreachable(host, "the upload stalled", code="deadline")
        self.shipped += [(host, file.name) for file in files]
        progress(host, 10, 10)

    def discard(self, host: str, names: Iterable[str]) -> None:
        self.discarded.append(host)

    def each(
        self, hosts: Iterable[str], work: Any, *, deadline: float, done: Any = None
    ) -> dict[str, Outcome[Any]]:
        outcomes = {}
        for host in hosts:
            try:
                outcomes[host] = Outcome(value=work(host))
            except HostError as error:
                outcomes[host] = Outcome(error=error)
            if done:
                done(host, outcomes[host])
        return outcomes

    # hostctl.

    def _facts(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "protocol": 1,
            "python": "3.11.2",
            "machine": "x86_64",
            "time": self.clock.time(),
            "disk_free": 10**12,
            "inodes_free": 10**7,
            "drained": False,
            "apps": {"jukebox": {"releases": list(host.staged)}},
            **host.facts,
        }

    def _status(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        if host.facts.get("apps") == {}:
            raise HostError(host.name, "this host has no app jukebox", code="unknown_app")
        return {
            "current": next(iter(host.live.values()), None),
            "releases": [
                {"id": release, "version": "1.0", "state": state}
                for release, state in sorted(host.staged.items())
            ],
            "good": list(host.good),
            "processes": {
                name: {
                    "kind": KINDS[name],
                    "live": host.live.get(name),
                    "instances": [
                        {"release": release, "active": "active", "since": 0}
                        for release in sorted(host.running.get(name, ()))
                    ],
                }
                for name in host.processes
            },
            "lease": None,
            "fence": host.fence,
            "drained": False,
        }

    def _lease(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        action = fields["action"]
        if action == "take":
            if host.lease and host.lease[0] != fields["run"]:
                raise HostError(
                    host.name,
                    "held",
                    code="lease_held",
                    exit_code=5,
                    details={"holder": "ann@desk", "run": host.lease[0], "expires_in": 42},
                )
            if fields["token"] <= host.fence:
                raise HostError(host.name, "stale", code="stale_token", exit_code=6)
            host.fence = fields["token"]
            host.lease = (fields["run"], fields["token"])
        elif action == "renew":
            self._guard(host, fields)
        elif action == "release" and host.lease and host.lease[0] == fields["run"]:
            host.lease = None
        return {"lease": None, "fence": host.fence}

    def _stage(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        already = fields["release"] in host.staged
        host.staged.setdefault(fields["release"], "staged")
        return {"staged": True, "already": already}

    def _migrate(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        if fields["release"] not in host.migrated:
            assert not any(fields["release"] in h.live.values() for h in self.hosts.values())
        host.migrated.add(fields["release"])
        return {"ran": 1}

    def _start(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        running = host.running.setdefault(fields["process"], set())
        already = fields["release"] in running
        running.add(fields["release"])
        return {"unit": "u", "already": already}

    def _check(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        if fields["release"] not in host.running.get(fields["process"], ()):
            raise HostError(host.name, "it does not run", code="unhealthy")
        host.checked.add((fields["process"], fields["release"]))
        return {"healthy": True}

    def _switch(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        process, release = fields["process"], fields["release"]
        assert (process, release) in host.checked, "switched to a process nobody checked"
        assert release in host.running[process], "switched to a process that does not run"
        previous = host.live.get(process)
        host.live[process] = release
        return {"previous": previous, "already": previous == release}

    def _stop(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        process, release = fields["process"], fields["release"]
        if host.live.get(process) == release and not fields.get("force"):
            raise HostError(host.name, "it is live", code="live_release", exit_code=6)
        host.running.get(process, set()).discard(release)
        return {"stopped": True}

    def _rollback(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        what = {**fields, "release": fields["to"]}
        self._start(host, what)
        self._check(host, what)
        return self._switch(host, what)

    def _mark(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        release = fields["release"]
        host.staged[release] = fields["state"]
        host.good = [entry for entry in host.good if entry != release]
        if fields["state"] == "good":
            host.good.append(release)
        return {}

    def _prune(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        return {"removed": []}

    def _guard(self, host: FakeHost, fields: Mapping[str, Any]) -> None:
        if fields["token"] < host.fence:
            raise HostError(host.name, "stale token", code="stale_token", exit_code=6)
        if host.lease != (fields["run"], fields["token"]):
            raise HostError(host.name, "no lease", code="lease_required", exit_code=6)

    def _invariants(self) -> None:
        for host in self.hosts.values():
            for process in host.processes:
                running = host.running.get(process, set())
                if KINDS[process] == "singleton":
                    assert len(running) <= 1, f"{process} runs twice on {host.name}"


def small_fleet(old: str | None, processes: Mapping[str, Sequence[str]]) -> FakeFleet:
    """Hosts that run `old` (or nothing yet), marked good."""
    hosts = []
    for name, names in processes.items():
        host = FakeHost(name, tuple(names))
        if old:
            host.staged[old] = "good"
            host.good.append(old)
            for process in names:
                host.live[process] = old
                host.running[process] = {old}
        hosts.append(host)
    return FakeFleet(hosts)
