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

from backline.transport.port import Ended, HostError, Outcome, Unreachable

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


class Hangs(Exception):
    """The host never answers this call."""


class FakeHands:
    """Implements port.Hands in one thread: `pick` says which of the waiting calls is next.

    A call may take time (`FakeFleet.takes`), which passes when nobody has anything else to do. One
    that hangs ends at its deadline.
    """

    def __init__(self, fleet: FakeFleet, clock: FakeClock) -> None:
        self.fleet, self.clock = fleet, clock
        self.pick: Callable[[int], int] = lambda count: 0
        self.waiting: list[tuple[int, str, Callable[[], Any], float]] = []
        self.later: list[tuple[float, Ended]] = []

    def begin(self, ticket: int, host: str, work: Callable[[], Any], deadline: float) -> None:
        self.waiting.append((ticket, host, work, self.clock.now + deadline))

    def wait(self, seconds: float) -> list[Ended]:
        if self.waiting:
            ticket, host, work, end = self.waiting.pop(self.pick(len(self.waiting)))
            self.fleet.takes = 0.0
            try:
                ended = Ended(ticket, work(), None)
            except Hangs:
                error = Unreachable(host, "no answer in time", code="deadline")
                self.later.append((end, Ended(ticket, None, error)))
                return []
            except HostError as error:
                ended = Ended(ticket, None, error)
            if not self.fleet.takes:
                return [ended]
            self.later.append((self.clock.now + self.fleet.takes, ended))
            return []
        until = min([self.clock.now + seconds, *(when for when, _ in self.later)])
        self.clock.now = max(self.clock.now, until)
        over = [entry for entry in self.later if entry[0] <= self.clock.now]
        self.later = [entry for entry in self.later if entry[0] > self.clock.now]
        return [ended for _, ended in over]


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
    lease_ends: float = 0.0
    holder: str = ""
    fence: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] | None = None
    contracted: list[str] = field(default_factory=list)
    quarantine: dict[str, Any] = field(default_factory=dict)
    drained: bool = False
    tars: set[str] = field(default_factory=set)
    retiring: set[tuple[str, str]] = field(default_factory=set)
    done: list[tuple[str, ...]] = field(default_factory=list)
    vitals: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """What goes wrong: on `host` (or any) at the `nth` call of `verb` (for `release`, if given).

    `effect`: a hostctl error code, `unreachable` (not done), `hang` (not done, and no answer until
    the deadline) or `lost` (done, but no answer comes). `forever` keeps the host dead from then on.
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
        self.takes = 0.0
        self.the_hands = FakeHands(self, self.clock)
        self.watching: Callable[[str, str, str], str | None] = lambda host, process, release: None

    # The port.

    def hands(self) -> FakeHands:
        return self.the_hands

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
            if fault.effect == "hang":
                raise Hangs
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

    def ship(self, host: str, files: Sequence[Path], progress: Any) -> int:
        self.calls.append((host, "ship", {}))
        fault = next((f for f in self.faults if f.strikes(host, "ship", {})), None)
        if fault or host in self.dead:
            raise Unreachable(host, "the upload stalled", code="deadline")
        self.shipped += [(host, file.name) for file in files]
        progress(host, 10, 10)
        return 10

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
            "protocol": 2,
            "python": "3.11.2",
            "machine": "x86_64",
            "time": self.clock.time(),
            "disk_free": 10**12,
            "inodes_free": 10**7,
            "drained": False,
            "apps": {"jukebox": {"releases": list(host.staged)}},
            **({"status": self._status(host, fields)} if "app" in fields else {}),
            **(self._wide(host) if fields.get("wide") else {}),
            **host.facts,
        }

    def _wide(self, host: FakeHost) -> dict[str, Any]:
        apps = host.facts.get("apps", {"jukebox": {}})
        return {
            "hostctl": "0.4.0",
            "statuses": {app: self._status(host, {"app": app}) for app in apps},
            "vitals": host.vitals,
        }

    def _status(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        if host.facts.get("apps") == {}:
            raise HostError(host.name, "this host has no app jukebox", code="unknown_app")
        return {
            "current": next(iter(host.live.values()), None),
            "releases": [
                {
                    "id": release,
                    "version": "1.0",
                    "state": state,
                    "tar": release in host.tars,
                    "migrated": ["expand"] if release in host.migrated else [],
                }
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
            "lease": self._shown(host)["lease"],
            "fence": host.fence,
            "drained": host.drained,
            "run": host.run,
            "contracted": list(host.contracted),
            "quarantine": dict(host.quarantine),
        }

    def _lease(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        action, run = fields["action"], fields.get("run")
        if host.lease and host.lease_ends <= self.clock.now:
            host.lease = None
        if action == "show":
            return self._shown(host)
        if action == "take":
            self._take(host, fields)
            return {**self._shown(host), "status": self._status(host, fields)}
        if action == "renew":
            self._guard(host, fields)
            host.lease_ends = self.clock.now + fields["lifetime"]
        elif action == "release":
            if fields["token"] < host.fence:
                raise HostError(host.name, "stale", code="stale_token", exit_code=6)
            if host.lease and host.lease[0] == run:
                host.lease = None
            ours = host.run and (host.run["run"], host.run["token"]) == (run, fields["token"])
            if fields.get("ended") and host.run and ours:
                host.run["ended"] = fields["ended"]
        return self._shown(host)

    def _shown(self, host: FakeHost) -> dict[str, Any]:
        lease = None
        if host.lease and host.lease_ends > self.clock.now:
            left = host.lease_ends - self.clock.now
            run, token = host.lease
            lease = {"run": run, "token": token, "holder": host.holder, "expires_in": left}
        return {"lease": lease, "fence": host.fence, "wanted": (host.run or {}).get("wanted")}

    def _want(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        if host.run is None or host.run["run"] != fields["run"] or host.run["ended"]:
            raise HostError(host.name, "no such run", code="no_such_run", exit_code=6)
        if fields["want"] == (host.run["wanted"] or {"want": "go"})["want"]:
            return {"wanted": host.run["wanted"], "already": True}
        said = {"want": fields["want"], "actor": fields["actor"], "at": self.clock.now}
        host.run["wanted"] = None if fields["want"] == "go" else said
        return {"wanted": host.run["wanted"], "already": False}

    def _take(self, host: FakeHost, fields: Mapping[str, Any]) -> None:
        run, plan = fields["run"], fields.get("plan")
        if host.lease and host.lease[0] != run:
            raise HostError(
                host.name,
                "held",
                code="lease_held",
                exit_code=5,
                details={"holder": "ann@desk", "run": host.lease[0], "expires_in": 42},
            )
        again = host.lease == (run, fields["token"])  # its answer was lost, and it is asked again
        if fields["token"] <= host.fence and not again:
            raise HostError(host.name, "stale", code="stale_token", exit_code=6)
        former = host.run
        another = former and former["run"] != run and not former["ended"]
        if plan is not None and former and another and not fields.get("replace"):
            details = {"run": former["run"]}
            raise HostError(
                host.name, "unfinished", code="unfinished_run", exit_code=6, details=details
            )
        if plan is not None and (former is None or former["run"] != run):
            host.run = {"run": run, "plan": plan, "notes": [], "ended": None, "wanted": None}
        if host.run and host.run["run"] == run:
            host.run["token"] = fields["token"]
        host.holder = fields.get("holder", "")
        host.fence = fields["token"]
        host.lease = (run, fields["token"])
        host.lease_ends = self.clock.now + fields["lifetime"]

    def _note(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        assert host.run is not None
        host.run["notes"].append(fields["note"])
        return {}

    def _quarantine(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        if fields["action"] == "add":
            host.quarantine |= fields["hosts"]
        else:
            for name in fields["hosts"]:
                host.quarantine.pop(name, None)
        return {}

    def _drain(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        host.drained = fields["action"] == "on"
        return {}

    def _stage(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        already = fields["release"] in host.staged
        base = fields.get("base")
        if base and base not in host.tars and not already:
            raise HostError(host.name, "no such base", code="no_base")
        if not already:
            host.done.append(("stage", "", fields["release"], fields["run"]))
        host.staged.setdefault(fields["release"], "staged")
        host.tars.add(fields["release"])
        return {"staged": True, "already": already}

    def _migrate(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        already = fields["release"] in host.migrated
        if not already:
            assert not any(fields["release"] in h.live.values() for h in self.hosts.values())
            host.done.append(("migrate", "", fields["release"], fields["run"]))
        host.migrated.add(fields["release"])
        return {"ran": 1, "already": already}

    def _start(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        running = host.running.setdefault(fields["process"], set())
        host.retiring.discard((fields["process"], fields["release"]))
        already = fields["release"] in running
        if running and not already and KINDS[fields["process"]] == "singleton":
            raise HostError(host.name, "another runs", code="singleton_running", exit_code=6)
        running.add(fields["release"])
        if not already:
            host.done.append(("start", fields["process"], fields["release"], fields["run"]))
        return {"unit": "u", "already": already}

    def _check(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        if fields["release"] not in host.running.get(fields["process"], ()):
            raise HostError(host.name, "it does not run", code="unhealthy")
        if "for" in fields:
            self.takes = float(fields["for"])
            why = self.watching(host.name, fields["process"], fields["release"])
            if why:
                raise HostError(host.name, why, code="unhealthy")
        host.checked.add((fields["process"], fields["release"]))
        return {"healthy": True}

    def _switch(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        process, release = fields["process"], fields["release"]
        assert (process, release) in host.checked, "switched to a process nobody checked"
        assert release in host.running[process], "switched to a process that does not run"
        previous = host.live.get(process)
        host.live[process] = release
        if previous != release:
            host.done.append(("switch", process, release, fields["run"]))
        return {"previous": previous, "already": previous == release}

    def _stop(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        process, release = fields["process"], fields["release"]
        if host.live.get(process) == release and not fields.get("force"):
            raise HostError(host.name, "it is live", code="live_release", exit_code=6)
        if fields.get("after"):
            host.retiring.add((process, release))
            return {"stopped": False, "scheduled": fields["after"]}
        host.running.get(process, set()).discard(release)
        host.checked.discard((process, release))
        return {"stopped": True}

    def _rollback(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        what = {**fields, "release": fields["to"]}
        self._start(host, what)
        self._check(host, what)
        return self._switch(host, what)

    def _mark(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        release = fields["release"]
        if fields["state"] == "contracted":
            host.contracted.append(release)
            return {}
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
        held = host.lease == (fields["run"], fields["token"])
        if not held or host.lease_ends <= self.clock.now:
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
            host.tars.add(old)
            host.good.append(old)
            for process in names:
                host.live[process] = old
                host.running[process] = {old}
        hosts.append(host)
    return FakeFleet(hosts)
