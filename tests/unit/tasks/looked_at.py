"""A small fleet in memory with vital signs, as the tasks that look at it reach it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_fleet import FakeFleet, small_fleet

from backline.inventory import Environment, Host

GROUPS = {"streaming": ("stream1", "stream2"), "worker": ("worker1",), "database": ("db1",)}
PROCESSES = {"stream1": ("web",), "stream2": ("web",), "worker1": ("mail", "plays"), "db1": ()}
OLD = "20260101T000000Z-0000001"
NOW = 1_800_000_000.0
DAY = 86400.0
WELL: dict[str, Any] = {
    "load": {"averages": [0.5, 0.4, 0.3], "processors": 2},
    "memory": {"total": 1000, "available": 600, "swap_used": 0},
    "disks": [{"place": "/", "size": 100, "free": 80, "inodes": 100, "inodes_free": 90}],
    "uptime": 3 * DAY,
    "reboot": {"due": False, "since": None, "packages": []},
    "upgrades": {"all": 0, "security": 0},
    "failed_units": [],
    "certificates": [{"name": "host", "not_after": NOW + 60 * DAY}],
    "database": None,
    "broker": None,
}
MEMBER = {
    "role": "sync_standby",
    "state": "streaming",
    "lag": 4096,
    "timeline": 3,
    "leader": "db2",
    "paused": False,
    "trouble": None,
}


class Reached(FakeFleet):
    """The fleet in memory, as the tasks reach it."""

    def __enter__(self) -> Reached:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def made() -> FakeFleet:
    """Three hosts that run OLD and a db1 without an app; all are well."""
    fleet = small_fleet(OLD, PROCESSES)
    fleet.hosts["db1"].facts = {"apps": {}}
    for host in fleet.hosts.values():
        host.vitals = dict(WELL)
    fleet.__class__ = Reached
    return fleet


def environment(folder: Path, confirm: bool = False) -> Environment:
    """The environment `stage` that these hosts are."""
    hosts = {
        name: Host(name, f"{name}.example.com", 22, "deploy", None, f"10.0.0.{number}", "a", groups)
        for number, name in enumerate(PROCESSES, start=1)
        for groups in [tuple(group for group, members in GROUPS.items() if name in members)]
    }
    return Environment("stage", folder, hosts, GROUPS, confirm, ())
