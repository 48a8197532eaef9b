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


class ServiceFleet(FakeFleet):
    """`slow`: how often an edge still finds a drained host up. `out`: whom edges were told to keep out."""

    def __init__(self) -> None:
        hosts = [FakeHost(name, ()) for name in EDGES]
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
        self.slow = {"edge2": 3}
        self.up = dict.fromkeys(SERVING, True)
        self.out: list[str] = []

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

    def __enter__(self) -> ServiceFleet:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def see(self, *hosts: str) -> look.View:
        serving = set(hosts) & set(SERVING)
        return look.collect(
            self, "jukebox", hosts, SERVING if serving else (), EDGES if serving else ()
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
