"""Which units run what is no longer on disk, as after an upgrade: programs, libraries, and whatever
else came with the package that their unit is of. RabbitMQ's code, as that of any language of its own, is
read once and mapped nowhere: there only the package tells.

Prints {"restart": [units], "reboot": [units]}: those that can be restarted, and those that only a
reboot brings up to date. Standard library only: it runs on the host.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

UNIT = re.compile(r"/([^/\n]+\.(?:service|scope))(?=[/\n]|$)")
CODE = ("/usr/", "/lib", "/bin/", "/sbin/", "/opt/")
# A restart of these cuts off who is logged in, or everybody who talks over the bus.
ONLY_BY_REBOOT = {"dbus.service", "systemd-logind.service", "init.scope"}


def deleted_code(maps: str) -> bool:
    """True when /proc/PID/maps has code whose file was replaced."""
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].endswith(" (deleted)") and fields[5].startswith(CODE):
            return True
    return False


def unit_of(cgroup: str) -> str:
    """The service that /proc/PID/cgroup names; empty for logins and for what belongs to none."""
    found = UNIT.findall(cgroup)
    unit = found[-1] if found else ""
    if unit.startswith("user@") or (unit.endswith(".scope") and unit != "init.scope"):
        return ""
    return unit


def replaced_since(units: dict[str, tuple[float, str]], unpacked: dict[str, float]) -> set[str]:
    """The units, {name: (start, path of its file)}, that started before the package of that file was
    unpacked, {path: when}. Both in seconds since the epoch."""
    return {name for name, (began, path) in units.items() if began < unpacked.get(path, 0.0)}


def running() -> dict[str, tuple[float, str]]:
    """{service: (when its main process started, where its unit's file lies)}."""
    words = ["systemctl", "show", "--type=service", "--state=active", "*"]
    said = _output([*words, "--property=Id,MainPID,FragmentPath"])
    booted = int(re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.M)[1])
    tick = os.sysconf("SC_CLK_TCK")
    found = {}
    for block in said.split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        try:
            stat = Path(f"/proc/{int(shown['MainPID'])}/stat").read_text().rpartition(")")[2]
        except (LookupError, ValueError, OSError):
            continue  # no main process, or none any more
        if shown.get("FragmentPath"):
            began = booted + int(stat.split()[19]) / tick
            found[shown["Id"]] = (began, shown["FragmentPath"])
    return found


def unpacked(paths: list[str]) -> dict[str, float]:
    """When the packages of these files were put on disk last; nothing for what is of no package."""
    found = {}
    for line in _output(["dpkg-query", "--search", *paths]).splitlines():
        packages, _, path = line.partition(": ")
        for package in packages.split(", "):
            for name in (package, package.partition(":")[0]):
                listed = Path(f"/var/lib/dpkg/info/{name}.list")
                if listed.exists():
                    found[path] = max(found.get(path, 0.0), listed.stat().st_mtime)
    return found


def _output(argv: list[str]) -> str:
    """What a program prints; dpkg-query ends with 1 when one of many files is of no package."""
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    ).stdout


def main() -> dict[str, list[str]]:
    services = running()
    stale = replaced_since(services, unpacked([path for _, path in services.values()]))
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if deleted_code((process / "maps").read_text(errors="replace")):
                stale.add(unit_of((process / "cgroup").read_text()))
        except OSError:
            continue
    stale.discard("")
    return {"restart": sorted(stale - ONLY_BY_REBOOT), "reboot": sorted(stale & ONLY_BY_REBOOT)}


if __name__ == "__main__":
    print(json.dumps(main()))
