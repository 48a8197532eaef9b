"""Which units run programs or libraries that are no longer on disk, as after an upgrade.

Prints {"restart": [units], "reboot": [units]}: those that can be restarted, and those that only a
reboot brings up to date. Standard library only: it runs on the host.
"""

from __future__ import annotations

import json
import os
import re
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


def main() -> dict[str, list[str]]:
    stale = set()
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
