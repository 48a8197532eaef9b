"""Reads what `apt-get --simulate` says it would do."""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError

INSTALL = re.compile(r"^Inst (\S+) (?:\[([^\]]*)\] )?\((\S+) ([^)]*)\)", re.M)
REMOVE = re.compile(r"^Remv (\S+)", re.M)
# As hostctl counts them for `fab status`: a test holds the two together.
SECURITY = re.compile(r"Debian-Security:|/\S*-security\b")


def upgrades(simulation: str, everything: bool = False) -> list[dict[str, str]]:
    """The installed packages that have an upgrade: [{name, old, new, origin}].

    Only those from a security archive, unless `everything`. Raises AnsibleFilterError when a package
    would be removed: a security upgrade never needs that.
    """
    removed = REMOVE.findall(simulation)
    if removed:
        raise AnsibleFilterError(
            f"the upgrade would remove {', '.join(removed)}: look at `apt-get -s dist-upgrade` there"
        )
    return [
        {"name": name, "old": old, "new": new, "origin": origin.rpartition(" ")[0] or origin}
        for name, old, new, origin in INSTALL.findall(simulation)
        if old and (everything or SECURITY.search(origin))
    ]


def in_patch_order(
    hosts: list[str],
    hostvars: Any,
    groups: dict[str, list[str]],
    kinds: list[str],
    leaders: tuple[str, ...] = (),
) -> list[str]:
    """`hosts` by the last of `kinds` that they are of, zone by zone; those of no kind first.

    `leaders` are the last of their kind: others are patched before one of them takes over. Before all of its
    kind comes a host on which an earlier run ended half way: nobody else may leave as long as it is so.
    """

    def rank(host: str) -> tuple[int, bool, bool, str, str]:
        mine = [kinds.index(kind) for kind in kinds if host in groups.get(kind, [])]
        zone = str(hostvars[host].get("zone", ""))
        left = hostvars[host].get("__patch_left", {}).get("rc") == 0
        return (max(mine, default=-1), not left, host in leaders, zone, host)

    return sorted(hosts, key=rank)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        return {"upgrades": upgrades, "in_patch_order": in_patch_order}
