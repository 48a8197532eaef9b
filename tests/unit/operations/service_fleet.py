"""A service in memory: two edges that notice a flag after some looks, two streaming hosts, a worker host."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "rollout"))

from fake_fleet import FakeClock, FakeFleet, FakeHost, Fault

from backline.operations.drain import judge, look
from backline.operations.drain.work import Drain
from backline.rollout.events import Event
from backline.rollout.lease import Run

__all__ = ["OLD", "SERVING", "Fault", "ServiceFleet"]

OLD = "20261122T190500Z-1a2b3c4"
SERVING = ("stream1", "stream2")
EDGES = ("edge1", "edge2")
BROKERS = ("broker1", "broker2")


class ServiceFleet(FakeFleet):
    """`slow`: how often an edge still finds a drained host up. `out`: whom edges were told to keep out.

    `behind`: how many jobs at once a pool runs that was not started anew since it was scaled. `cut`: who
    does not run was stopped by a scaling that was cut off.
    """

    def __init__(self) -> None:
        hosts = [FakeHost(name, ()) for name in (*EDGES, *BROKERS)]
        for name, processes in {
            "stream1": ("web",),
            "stream2": ("web",),
            "worker1": ("plays", "beat"),
        }.items():
            host = FakeHost(name, processes, staged={OLD: "good"}, good=[OLD])
            host.live = dict.fromkeys(processes, OLD)
            host.running = {process: {OLD} for process in processes}
            hosts.append(host)
        super().__init__(hosts, FakeClock())
        self.edges: tuple[str, ...] = EDGES
        self.slow = {"edge2": 3}
        self.up = dict.fromkeys(SERVING, True)
        self.out: list[str] = []
        self.letters: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.busy: list[dict[str, Any]] = []
        self.queues: dict[str, int] = {}
        self.children = {"worker1": 2}
        self.behind = 0
        self.cut = False
        self.at_once = 2  # letters that one call moves
        self.refuses = ""  # what the broker says instead of taking a letter
        self.mute = False  # pools run, and do not answer

    def _balance(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        assert fields["action"] == "show"
        servers = {}
        for name in SERVING:
            drained = self.hosts[name].drained
            if drained and self.slow.get(host.name):
                self.slow[host.name] -= 1
                drained = False
            servers[name] = "stopping" if drained else "up" if self.up[name] else "down"
        return {"servers": {"streaming": servers}, "out": self.out}

    def _broker(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        assert fields == {"action": "queues"}
        more = {"vhost": "/", "unacknowledged": 0, "consumers": 1, "leads": True, "copy": True}
        if host.name != BROKERS[0]:  # it has copies, and knows nothing of what lies in them
            more |= {"leads": False}
            return {"queues": [{"name": name, "messages": 0, **more} for name in self.queues]}
        return {
            "queues": [{"name": name, "messages": n, **more} for name, n in self.queues.items()]
        }

    def _jobs(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        action = fields["action"]
        if action == "status":
            return self._pools(host)
        if action == "revoke":
            job = fields["ids"][0]
            rows = [row for row in self.busy if row["id"] == job]
            found = {"plays@worker1": ["active", rows[0]]} if rows else {}
            return {"found": found, "confirmed": [] if fields["dry"] else ["plays@worker1"]}
        fitting = [row for row in self.letters if row["id"] in fields.get("ids", [row["id"]])]
        fitting = [row for row in fitting if fields.get("task", row["task"]) == row["task"]]
        if action == "dead":
            there = len(self.letters)
            return {"there": there, "seen": there, "letters": fitting[: fields["limit"]]}
        kept = [{**row, "kept": "its time is over"} for row in fitting if row.get("late")]
        able = [row for row in fitting if not row.get("late")][: fields["most"]]
        moved = [] if self.refuses else able[: self.at_once]
        self.letters = [row for row in self.letters if row not in moved]
        self.sent += moved
        over = len(moved) == len(able)
        trouble = self.refuses or None
        return {
            "moved": len(moved),
            "letters": moved,
            "kept": kept[:500],
            "held": len(kept),
            "over": over,
            "trouble": trouble,
        }

    def _pools(self, host: FakeHost) -> dict[str, Any]:
        runs = self.behind or self.children.get(host.name, 2)
        answer = {"processes": runs, "active": self.busy, "reserved": []}
        pools, once = [], []
        for name, release in host.live.items():
            active = "active" if host.running[name] else "inactive"
            row = {"process": name, "release": release, "active": active}
            if name == "beat":
                once.append(row)
                continue
            said = None if self.mute or active != "active" else answer
            more = {"node": f"{name}@{host.name}", "queues": name, "inventory": 2, "answer": said}
            more["rests"] = active != "active" and not self.cut
            pools.append({**row, **more, "children": self.children[host.name]})
        return {"pools": pools, "singletons": once, "trouble": None}

    def _scale(self, host: FakeHost, fields: Mapping[str, Any]) -> dict[str, Any]:
        self._guard(host, fields)
        self.children[host.name] = fields["children"] or 2
        return {"already": False}

    def __enter__(self) -> ServiceFleet:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def see(self, *hosts: str) -> look.View:
        serving = set(hosts) & set(SERVING)
        return look.collect(
            self, "jukebox", hosts, SERVING if serving else (), self.edges if serving else ()
        )

    def drain(self, *hosts: str, outage: bool = False, timeout: float = 60.0) -> list[Event]:
        plan = judge.drain(self.see(*hosts), hosts, SERVING, outage)
        told: list[Event] = []
        run = Run("run-1", "jukebox", "ann@desk", "new disks")
        Drain(self, plan, run, self.clock, told.append, timeout).out(SERVING, outage)
        return told

    def undrain(self, *hosts: str) -> list[Event]:
        plan = judge.undrain(self.see(*hosts), hosts, SERVING)
        told: list[Event] = []
        run = Run("run-2", "jukebox", "ann@desk")
        Drain(self, plan, run, self.clock, told.append, 60.0).back()
        return told

    def leased(self) -> list[str]:
        return [name for name, host in self.hosts.items() if host.lease]
