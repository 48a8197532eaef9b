"""What a host's vital signs mean: shares in place of bytes, and which of them somebody should see.

hostctl tells them (`facts`, asked for the whole picture); one that is older does not, and then
nothing is known rather than anything wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backline.operations.database.look import GOOD, LEADERS

DAY = 86400.0
CERTIFICATE_DAYS = 14.0
DISK_FULL = 0.90
INODES_LOW = 0.05
MEMORY_FULL = 0.95
OVERLOADED = 4.0
LAG_BYTES = 16_000_000


@dataclass(frozen=True)
class Disk:
    """A file system. `used` and `inodes_used` are shares from 0 to 1."""

    place: str
    used: float
    inodes_used: float


NAMES = {"full": "full backup", "diff": "differential backup", "drill": "restore drill"}
"""What people call a job of the host with the backups; the others are called by their names."""


@dataclass(frozen=True)
class Vitals:
    """A host's vital signs; None where it does not know.

    `load` is the average over a minute, `memory` the share in use, `uptime` seconds, `security` how
    many security upgrades wait, `held_back`: packages may not start their daemons, `ends_in` the days
    that the certificate which ends first has left.
    """

    load: float | None = None
    processors: int | None = None
    memory: float | None = None
    disks: tuple[Disk, ...] = ()
    uptime: float | None = None
    reboot: bool | None = None
    security: int | None = None
    upgrades: int | None = None
    failed_units: tuple[str, ...] = ()
    held_back: bool = False
    ends_in: float | None = None
    ends_first: str = ""
    unreadable: tuple[str, ...] = ()
    database: Mapping[str, Any] | None = None
    broker: Mapping[str, Any] | None = None
    backups: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def disk(self) -> Disk | None:
        """The fullest file system."""
        return max(self.disks, key=lambda disk: disk.used, default=None)

    @property
    def queued(self) -> int | None:
        """Messages that wait or are worked on, in queues that this host leads."""
        if not self.broker or self.broker.get("trouble"):
            return None
        return int(self.broker["ready"]) + int(self.broker["unacknowledged"])

    @property
    def role(self) -> str:
        """What it is in the database cluster: `leader`, `sync standby`, …; empty for no member."""
        return str((self.database or {}).get("role") or "").replace("_", " ")

    @property
    def lag(self) -> int | None:
        """Bytes that this member is behind; None for the leader, or when it is not known."""
        member = self.database or {}
        lag = member.get("lag")
        return lag if isinstance(lag, int) and member.get("role") not in LEADERS else None

    @property
    def troubles(self) -> list[str]:
        """What somebody on call should see."""
        found = [f"{unit} failed" for unit in self.failed_units]
        if self.held_back:
            found.append("a playbook is at work on its packages, or was cut off there")
        found += [_full(disk) for disk in self.disks if disk.used >= DISK_FULL]
        found += [f"{d.place} runs out of inodes" for d in self.disks if _few(d)]
        if self.memory is not None and self.memory >= MEMORY_FULL:
            found.append(f"memory {self.memory:.0%} full")
        if self.load and self.processors and self.load >= OVERLOADED * self.processors:
            found.append(f"load {self.load:.1f} on {self.processors} processors")
        if self.ends_in is not None and self.ends_in < CERTIFICATE_DAYS:
            found.append(f"certificate {self.ends_first} {ending(self.ends_in)}")
        found += [f"certificate {name} cannot be read" for name in self.unreadable]
        for tier in (self.database, self.broker):
            if tier and tier.get("trouble"):
                found.append(str(tier["trouble"]))
        if self.database and not self.database.get("trouble"):
            found += _of_member(self.database, self.lag)
        for job, last in (self.backups or {}).items():
            if not last.get("good"):
                found.append(f"the last {NAMES.get(job, job)} failed")
        return found

    @property
    def drill(self) -> str:
        """How the last restore drill went, on the host that keeps the backups; a failed one is a trouble."""
        if self.backups is None or not self.backups.get("drill", {}).get("good", True):
            return ""
        return "restore drill good" if "drill" in self.backups else "no restore drill yet"

    @property
    def waiting(self) -> list[str]:
        """What waits for a maintenance window."""
        found = ["reboot due"] if self.reboot else []
        if self.security:
            found.append(f"{self.security} security upgrade{'s' * (self.security > 1)}")
        return found


def ending(days: float) -> str:
    """`ends in 5 days`, or that it has ended."""
    if days < 0:
        return f"ENDED {-days:.0f} days ago"
    return f"ends in {days:.0f} days" if days >= 2 else f"ends in {days * 24:.0f} h"


def vitals_of(facts: Mapping[str, Any]) -> Vitals | None:
    """The vital signs in an answer; None when its hostctl knows of none."""
    told = facts.get("vitals")
    if not isinstance(told, Mapping):
        return None
    load, memory = told.get("load") or {}, told.get("memory") or {}
    reboot, upgrades = told.get("reboot") or {}, told.get("upgrades") or {}
    ends_in, ends_first = _first_end(told.get("certificates") or (), float(facts.get("time") or 0))
    return Vitals(
        load=next(iter(load.get("averages") or ()), None),
        processors=load.get("processors"),
        memory=_share(memory.get("available"), memory.get("total")),
        disks=tuple(_disk(entry) for entry in told.get("disks") or ()),
        uptime=told.get("uptime"),
        reboot=reboot.get("due"),
        security=upgrades.get("security"),
        upgrades=upgrades.get("all"),
        failed_units=tuple(told.get("failed_units") or ()),
        held_back=bool(told.get("held_back")),
        ends_in=ends_in,
        ends_first=ends_first,
        unreadable=tuple(e["name"] for e in told.get("certificates") or () if "trouble" in e),
        database=told.get("database"),
        broker=told.get("broker"),
        backups=told.get("backups"),
        raw=told,
    )


def _first_end(entries: Any, now: float) -> tuple[float | None, str]:
    """Days that the first certificate to end has left, and its name."""
    ends = [
        ((float(entry["not_after"]) - now) / DAY, str(entry["name"]))
        for entry in entries
        if entry.get("not_after") is not None
    ]
    return min(ends, default=(None, ""))


def _of_member(member: Mapping[str, Any], lag: int | None) -> list[str]:
    """What is wrong with a member of the database cluster, by the words of `fab db.status`."""
    found = []
    if member.get("state") not in GOOD:
        found.append(f"the database is {member.get('state') or 'in an unknown state'}")
    if member.get("leader") is None:
        found.append("nobody leads")
    if member.get("paused"):
        found.append("Patroni is paused")
    if lag is not None and lag >= LAG_BYTES:
        found.append(f"{lag / 1e6:.0f} MB behind")
    elif lag is None and member.get("role") not in LEADERS:
        found.append("lag not known")
    return found


def _disk(entry: Mapping[str, Any]) -> Disk:
    return Disk(
        place=str(entry["place"]),
        used=_share(entry.get("free"), entry.get("size")) or 0.0,
        inodes_used=_share(entry.get("inodes_free"), entry.get("inodes")) or 0.0,
    )


def _share(free: Any, total: Any) -> float | None:
    """The share in use; None when the total is not known, or there is none (inodes of btrfs)."""
    if not isinstance(free, (int, float)) or not isinstance(total, (int, float)) or total <= 0:
        return None
    return max(0.0, min(1.0, 1.0 - free / total))


def _full(disk: Disk) -> str:
    return f"{disk.place} {disk.used:.0%} full"


def _few(disk: Disk) -> bool:
    return disk.inodes_used >= 1.0 - INODES_LOW
