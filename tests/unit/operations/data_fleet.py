"""A data tier in memory: three database hosts and two app hosts that answer as hostctl does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from backline.transport.port import Answer, HostError, Outcome, Unreachable

APPS = ("stream1", "worker1")
NAMES = ("db1", "db2", "db3")
Fault = Callable[[], None]


class Clock:
    """Seconds that only sleep moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.before_sleep: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.before_sleep()
        self.now += seconds

    def wait(self, event: Any, seconds: float) -> bool:
        self.now += seconds
        return bool(event.is_set())


class DataFleet:
    """`faults`: (host, verb, action) → raised instead of, or after, what it does."""

    def __init__(self) -> None:
        self.leader: str | None = "db1"
        self.sync: str | None = "db2"
        self.paused = False
        self.states = {"db1": "running", "db2": "streaming", "db3": "streaming"}
        self.lags: dict[str, Any] = {"db2": 0, "db3": 0}
        self.etcd = dict.fromkeys(NAMES, "healthy")
        self.following: dict[str, str] = {}
        self.dead: set[str] = set()
        self.held: dict[str, str] = {}
        self.held_before: set[str] = set()
        self.shifted: dict[str, str] = {}
        self.sessions = dict.fromkeys(APPS, 0)
        self.faults: dict[tuple[str, str, str], BaseException] = {}
        self.late_faults: dict[tuple[str, str, str], BaseException] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.sent: list[Mapping[str, Any]] = []
        self.jobs: dict[str, Any] = {}
        self.follows: list[Answer] = []
        self.running_already = False
        self.ended_before = 0.0

    def __enter__(self) -> DataFleet:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def each(
        self, hosts: Iterable[str], work: Callable[[str], Any], *, deadline: float, done: Any = None
    ) -> dict[str, Outcome[Any]]:
        found: dict[str, Outcome[Any]] = {}
        for host in hosts:
            try:
                found[host] = Outcome(work(host))
            except HostError as error:
                found[host] = Outcome(error=error)
        return found

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> Answer:
        action = str(fields["action"])
        key = (host, verb, action)
        if action != "status":
            self.calls.append(key)
            self.sent.append(fields)
        if host in self.dead:
            raise Unreachable(host, "no route to host", code="lost")
        if key in self.faults:
            raise self.faults[key]
        answer: Answer = getattr(self, f"_{verb}")(host, action, fields)
        if key in self.late_faults:
            raise self.late_faults[key]
        return {"ok": True, **answer}

    def changes(self) -> list[tuple[str, str, str]]:
        return [call for call in self.calls if call[2] != "status"]

    def _database(self, host: str, action: str, fields: Mapping[str, Any]) -> Answer:
        if action == "status":
            return self.status(host)
        if action in ("switchover", "failover"):
            assert action == "failover" or host == self.leader
            if action == "switchover":
                assert set(self.held) == set(APPS), "clients would be cut off"
                self.following[host] = str(fields["candidate"])
            self.leader = str(fields["candidate"])
            seconds: Any = {"paused": 0.1, "handed_over": 2.0, "waited": 2.2}
            return {"leader": self.leader, "seconds": 3.0 if action == "failover" else seconds}
        if action == "query":
            return {"output": "1\n", "cut": False, "role": "backline_reader"}
        assert action == "home", action
        assert not self.held, "clients that are left there would read a standby"
        return {"already": self.following.pop(host, None) is None}

    def status(self, host: str) -> Answer:
        members = [self._member(name) for name in NAMES]
        return {
            "scope": "music",
            "name": host,
            "peers": list(NAMES),
            "etcd": self.etcd,
            "pgbouncer": {
                "trouble": None,
                "paused": False,
                "following": self.following.get(host),
                "active": 4,
                "waiting": 0,
            },
            "members": members,
            "leader": self.leader,
            "paused": self.paused,
            "synchronous": self.sync is not None,
            "trouble": None,
        }

    def _member(self, name: str) -> dict[str, Any]:
        role = "sync_standby" if name == self.sync else "replica"
        role = "leader" if name == self.leader else role
        found = {"name": name, "role": role, "state": self.states[name], "timeline": 4}
        return found if role == "leader" else {**found, "lag": self.lags.get(name, 0)}

    def _proxy(self, host: str, action: str, fields: Mapping[str, Any]) -> Answer:
        if action == "hold":
            self.held[host] = str(fields["leader"])
        elif action == "shift":
            assert self.leader == fields["leader"], "nobody who takes writes"
            self.shifted[host] = str(fields["leader"])
        elif action == "release":
            self.held.pop(host, None)
        return {
            "held": [],
            "already": host in self.held_before,
            "servers": [
                {"sessions": self.sessions[host], "held": host in self.held},
                {"sessions": 50, "held": False},
            ],
        }

    def _backup(self, host: str, action: str, fields: Mapping[str, Any]) -> Answer:
        if action == "status":
            return {"jobs": self.jobs}
        if action == "start":
            return {"already": self.running_already, "cursor": "c0", "before": self.ended_before}
        return self.follows.pop(0)
