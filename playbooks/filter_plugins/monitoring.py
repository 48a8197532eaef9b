"""Whom Prometheus asks, from the inventory's groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Inventory = Mapping[str, Any]


def scrape_targets(
    jobs: dict[str, dict[str, Any]], groups: Mapping[str, list[str]], hostvars: Inventory
) -> dict[str, list[dict[str, str]]]:
    """{job: targets} of `jobs`, {job: {groups, port}}; jobs that nobody has are left out."""
    found = {job: _targets(wanted, groups, hostvars) for job, wanted in jobs.items()}
    return {job: targets for job, targets in found.items() if targets}


def _targets(
    wanted: dict[str, Any], groups: Mapping[str, list[str]], hostvars: Inventory
) -> list[dict[str, str]]:
    hosts = {host for group in wanted["groups"] for host in groups.get(group, [])}
    return [
        {
            "host": host,
            "address": f"{hostvars[host]['fleet_address']}:{wanted['port']}",
            "zone": str(hostvars[host].get("zone", "")),
            "role": "-".join(_roles(host, groups)),
        }
        for host in sorted(hosts)
    ]


def _roles(host: str, groups: Mapping[str, list[str]]) -> list[str]:
    """The groups that say what a host is for: neither zones nor Ansible's own."""
    return sorted(
        group
        for group, members in groups.items()
        if host in members and group not in {"all", "ungrouped"} and not group.startswith("zone_")
    )


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Any]:
        return {"scrape_targets": scrape_targets}
