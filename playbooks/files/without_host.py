"""Copies an environment's inventory without one host: `without_host.py FROM TO HOST`.

The copy is TO/inventory, and only its owner may enter TO: there are secrets in it. Runs on the controller.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml


def drop(node: Any, host: str) -> int:
    """Takes the host out of every `hosts` mapping; returns how many had it."""
    if not isinstance(node, dict):
        return 0
    hosts = node.get("hosts")
    found = 0
    if isinstance(hosts, dict) and host in hosts:
        del hosts[host]
        found = 1
    return found + sum(drop(value, host) for key, value in node.items() if key != "hosts")


def main(source: str, target: str, host: str) -> None:
    Path(target).chmod(0o700)
    place = Path(target) / "inventory"
    shutil.copytree(source, place)
    path = place / "hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not drop(content, host):
        sys.exit(f"{source}/hosts.yml has no host {host}")
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    shutil.rmtree(place / "host_vars" / host, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
