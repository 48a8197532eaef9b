"""How this host is: load, memory, disks, uptime, what waits for a reboot or an upgrade, what failed.

Part of `facts` when it is asked for the whole picture. Nothing here may take long or fail: whatever
cannot be read is null, and the rest is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from . import backups, certificates, tiers, upgrades
from .errors import HostctlError
from .host import Host

PLACES = ("/", "/boot", "/var", "/var/log", "/srv", "/var/lib/postgresql", "/var/lib/rabbitmq")
ASK_SYSTEMD_WITHIN = 5.0


def vitals(host: Host) -> dict[str, object]:
    """Every vital sign by name; null is "not known", and a tier's is null where it does not run."""
    signs: dict[str, Callable[[Host], object]] = {
        "load": _load,
        "memory": _memory,
        "disks": _disks,
        "uptime": _uptime,
        "reboot": _reboot,
        "upgrades": upgrades.known,
        "failed_units": _failed_units,
        "held_back": _held_back,
        "certificates": certificates.known,
        "database": tiers.database,
        "broker": tiers.broker,
        "backups": backups.known,
    }
    return {name: _or_none(host, look) for name, look in signs.items()}


def _or_none(host: Host, look: Callable[[Host], object]) -> object:
    try:
        return look(host)
    except (OSError, ValueError, LookupError, HostctlError):
        return None


def _held_back(host: Host) -> bool:
    """Whether packages that are installed may not start their daemons: by a playbook that is at work on
    them, or was cut off there. It writes just this; roles/base/files/take_up_dpkg.sh takes it away."""
    path = host.path("/usr/sbin/policy-rc.d")
    return path.exists() and path.read_text().strip() == "#!/bin/sh\nexit 101"


def _load(host: Host) -> dict[str, object]:
    """The load averages over 1, 5 and 15 minutes, and how many processors share it."""
    words = host.path("/proc/loadavg").read_text().split()
    return {"averages": [float(word) for word in words[:3]], "processors": os.cpu_count() or 1}


def _memory(host: Host) -> dict[str, int]:
    """Bytes in all, and bytes that a new process could have without swapping."""
    found = {}
    for line in host.path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree"):
            found[name] = int(rest.split()[0]) * 1024
    return {
        "total": found["MemTotal"],
        "available": found["MemAvailable"],
        "swap_used": found.get("SwapTotal", 0) - found.get("SwapFree", 0),
    }


def _disks(host: Host) -> list[dict[str, object]]:
    """Each file system under the places that fill up, once, by the first of them that it holds."""
    found: dict[int, dict[str, object]] = {}
    for place in PLACES:
        path = host.path(place)
        if path.is_dir():
            found.setdefault(path.stat().st_dev, _disk(place, path))
    return list(found.values())


def _disk(place: str, path: Path) -> dict[str, object]:
    room = os.statvfs(path)
    return {
        "place": place,
        "size": room.f_blocks * room.f_frsize,
        "free": room.f_bavail * room.f_frsize,
        "inodes": room.f_files,
        "inodes_free": room.f_favail,
    }


def _uptime(host: Host) -> float:
    """Seconds since the first process began: of a container, since the container did."""
    stat = host.path("/proc/1/stat").read_text()
    began = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, host.boottime() - began)


def _reboot(host: Host) -> dict[str, object]:
    """Whether a reboot is due, since when (epoch), and which packages asked for it."""
    try:
        since = host.path("/run/reboot-required").stat().st_mtime
    except FileNotFoundError:
        return {"due": False, "since": None, "packages": []}
    try:
        asked = host.path("/run/reboot-required.pkgs").read_text().split()
    except FileNotFoundError:
        asked = []
    return {"due": True, "since": since, "packages": sorted(set(asked))}


def _failed_units(host: Host) -> list[str]:
    argv = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
    ended = host.run(argv, timeout=ASK_SYSTEMD_WITHIN)
    if ended.status != 0:
        raise OSError(ended.err)
    return sorted(line.split()[0] for line in ended.out.splitlines() if line.strip())
