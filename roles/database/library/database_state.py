#!/usr/bin/python3
"""What a host has of a database cluster already, and what it can see of the other members."""

from __future__ import annotations

import re
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.database_etcd import TLS_OPTIONS, Etcd, EtcdError, context, request

DOCUMENTATION = """
module: database_state
short_description: Looks at a database host before anything on it is touched
description:
  - Reads files and asks daemons, and changes nothing. The filter C(database_refusals) judges it.
options:
  name: {description: This host's name as a member., required: true, type: str}
  scope: {description: Name of the cluster it is to be a member of., required: true, type: str}
  version: {description: Major version of PostgreSQL that it is to run., required: true, type: int}
  patroni: {description: Version of Patroni that it is to run., required: true, type: str}
  members: {description: "All members: name, address.", required: true, type: list, elements: dict}
  client_port: {description: etcd's port for clients., required: true, type: int}
  peer_port: {description: etcd's port for members., required: true, type: int}
  restapi_port: {description: Port of Patroni's REST API., required: true, type: int}
  tls: {description: "Paths of ca, certificate and key.", required: true, type: dict}
  root: {description: The host's root folder; another one in tests., default: /, type: path}
author: Backline
"""
EXAMPLES = """
- database_state:
    {name: db1, scope: music, version: 15, patroni: 4.1.5, members: [{name: db1, address: 198.51.100.31}],
     client_port: 2379, peer_port: 2380, restapi_port: 8008, tls: "{{ database_tls }}"}
"""
RETURN = """
state: {description: What was found., type: dict, returned: always}
"""

POSTGRESQL = "var/lib/postgresql"
ETCD = "var/lib/etcd"


def running(unit: str) -> bool:
    """Whether systemd runs a unit. Its status, not is-active: a unit that is starting counts."""
    done = subprocess.run(
        ["systemctl", "status", "--lines=0", f"{unit}.service"], capture_output=True, check=False
    )
    return done.returncode == 0


def system_identifier(folder: Path) -> str:
    """Return what tells this cluster of PostgreSQL from every other: pg_control begins with it."""
    try:
        with (folder / "global" / "pg_control").open("rb") as file:
            return str(struct.unpack("=Q", file.read(8))[0])
    except (OSError, struct.error):
        return ""


def data_folder(folder: Path) -> dict[str, Any]:
    """Return what lies in a data folder of PostgreSQL."""
    try:
        entries = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        entries = []
    version = folder / "PG_VERSION"
    return {
        "path": str(folder),
        "entries": len(entries),
        "some": entries[:3],
        "version": version.read_text(encoding="utf-8").strip() if version.is_file() else "",
        "system_identifier": system_identifier(folder),
        "patroni": (folder / "patroni.dynamic.json").exists(),
    }


def setting(path: Path, pattern: str) -> str:
    """Return the first group of the first line of a file that matches; empty without one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1) if found else ""


def installed_patroni(root: Path) -> str:
    """Return the version of the Patroni in use, empty without one, from its metadata's folder."""
    names = (root / "opt/patroni/current/lib").glob("python3*/site-packages/patroni-*.dist-info")
    return next((path.name.split("-")[1].removesuffix(".dist") for path in names), "")


def local(given: dict[str, Any]) -> dict[str, Any]:
    """Return what lies on this host and what runs here."""
    root = Path(given["root"])
    postgresql = root / POSTGRESQL
    wanted = postgresql / str(given["version"]) / given["scope"]
    others = [
        data_folder(path)
        for path in sorted(postgresql.glob(f"*/{given['scope']}"))
        if path != wanted and (path / "PG_VERSION").is_file()
    ]
    scopes = sorted(path.parent.name for path in (root / ETCD).glob("*/member"))
    return {
        "name": given["name"],
        "scope": given["scope"],
        "version": given["version"],
        "patroni_wanted": given["patroni"],
        "patroni": installed_patroni(root),
        "patroni_scope": setting(root / "etc/patroni/patroni.yml", r"^scope: *(\S+)"),
        "patroni_ran": running("patroni"),
        "etcd_ran": running("etcd"),
        "etcd_data": given["scope"] in scopes,
        "etcd_scopes": [scope for scope in scopes if scope != given["scope"]],
        "etcd_plain": "http://"
        in setting(root / "etc/default/etcd", r"^ETCD_LISTEN_PEER_URLS=(.*)"),
        "pgbouncer_ran": running("pgbouncer"),
        "data": data_folder(wanted),
        "other_data": others,
    }


def ask_etcd(address: str, port: int, tls: ssl.SSLContext) -> dict[str, Any] | None:
    """Return what the etcd at an address knows of its cluster; None when it does not answer."""
    etcd = Etcd([f"https://{address}:{port}"], tls)
    try:
        answer = etcd.call("/cluster/member/list", {})
        members = etcd.members()
    except EtcdError:
        return None
    serving = [member["id"] for member in members if etcd.healthy(member)]
    return {
        "cluster": str(answer["header"]["cluster_id"]),
        "members": [{**member, "serves": member["id"] in serving} for member in members],
    }


def ask_patroni(address: str, port: int, tls: ssl.SSLContext) -> dict[str, Any] | None:
    """Return what the Patroni at an address says of itself; None when it does not answer."""
    try:
        answer = request(f"https://{address}:{port}/patroni", tls, timeout=2)
    except EtcdError:
        return None
    about = answer.get("patroni", {})
    return {
        "scope": str(about.get("scope", "")),
        "version": str(about.get("version", "")),
        "server_version": int(answer.get("server_version", 0)),
        "system_identifier": str(answer.get("database_system_identifier", "")),
    }


def seen(given: dict[str, Any]) -> dict[str, Any]:
    """Return what each member answers, by name; nothing when this host has no certificate yet."""
    paths = given["tls"]
    try:
        tls = context(paths["ca"], paths["certificate"], paths["key"])
    except OSError:
        return {"certificate": False, "etcd": {}, "patroni": {}}
    found: dict[str, Any] = {"certificate": True, "etcd": {}, "patroni": {}}
    for member in given["members"]:
        name, address = member["name"], member["address"]
        found["etcd"][name] = ask_etcd(address, given["client_port"], tls)
        found["patroni"][name] = ask_patroni(address, given["restapi_port"], tls)
    return found


def main() -> None:
    """Run as Ansible's module."""
    port = {"type": "int", "required": True}
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "scope": {"required": True},
            "version": {"type": "int", "required": True},
            "patroni": {"required": True},
            "members": {"type": "list", "elements": "dict", "required": True},
            "client_port": port,
            "peer_port": port,
            "restapi_port": port,
            "tls": TLS_OPTIONS,
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    given = module.params
    peers = {m["name"]: f"https://{m['address']}:{given['peer_port']}" for m in given["members"]}
    module.exit_json(changed=False, state={**local(given), "peers": peers, "seen": seen(given)})


if __name__ == "__main__":
    main()
