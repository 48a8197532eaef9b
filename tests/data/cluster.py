"""The database cluster as its hosts and Patroni tell of it, for tests to wait by. Never to judge by."""

from __future__ import annotations

import json
import time
from typing import Any

from backline.errors import BacklineError
from backline.lab.machine import podman
from tests.live import Fleet

DATABASE = "jukebox"
TABLES = ("fault_rows", "fault_probes")
WHOLE_S = 240.0
"""How long a cluster has until all of its members are in step again, without hands."""


def inside(fleet: Fleet, host: str, *words: str, timeout: float = 60.0) -> str:
    """Runs a command on a host, without its network, and returns what it printed."""
    return podman("exec", fleet.container(host), *words, timeout=timeout)


def running(fleet: Fleet, hosts: list[str]) -> list[str]:
    """Those of the hosts that are up and do not stand still."""
    up = podman("ps", "--filter", "status=running", "--format", "{{.Names}}").split()
    return [host for host in hosts if fleet.container(host) in up]


def members(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What Patroni on any host that answers says of the cluster, by member; empty if none does."""
    for host in running(fleet, fleet.hosts("database")):
        words = ("timeout", "15", "patronictl", "-c", "/etc/patroni/patroni.yml")
        try:
            listed = json.loads(inside(fleet, host, *words, "list", "-f", "json"))
        except (BacklineError, ValueError):
            continue
        if listed:
            return {member["Member"]: member for member in listed}
    return {}


def role(fleet: Fleet, *roles: str) -> list[str]:
    """The members that have one of these roles."""
    return [name for name, member in members(fleet).items() if member["Role"] in roles]


def leader(fleet: Fleet) -> str:
    """Who leads; AssertionError if nobody does."""
    (name,) = role(fleet, "Leader") or [""]
    assert name, "the cluster has no leader"
    return name


def standby(fleet: Fleet) -> str:
    """The synchronous one."""
    return role(fleet, "Sync Standby")[0]


def lead_etcd(fleet: Fleet, host: str) -> None:
    """Has a member lead etcd."""
    own = "set -a; . /etc/etcd/etcdctl.env; ETCDCTL_ENDPOINTS=${ETCDCTL_ENDPOINTS%%,*}; etcdctl"
    status = f"{own} endpoint status --write-out simple"
    number = inside(fleet, host, "sh", "-ec", status).split(", ")[1]
    for other in fleet.hosts("database"):
        if inside(fleet, other, "sh", "-ec", status).split(", ")[4] == "true" and other != host:
            inside(fleet, other, "sh", "-ec", f"{own} move-leader {number}")
    assert inside(fleet, host, "sh", "-ec", status).split(", ")[4] == "true"


def in_step(fleet: Fleet) -> bool:
    """Whether there is a leader, a synchronous standby, and everybody else follows."""
    known = members(fleet)
    if set(known) != set(fleet.hosts("database")):
        return False
    states = sorted((member["Role"], member["State"]) for member in known.values())
    replicas = [("Replica", "streaming")] * (len(known) - 2)
    return states == [("Leader", "running"), *replicas, ("Sync Standby", "streaming")]


def settled(fleet: Fleet, seconds: float = WHOLE_S) -> float:
    """Waits until the cluster is in step; how long that took. AssertionError with its state if never."""
    began = time.monotonic()
    while not in_step(fleet):
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not in step within {seconds:.0f} s: {members(fleet)}")
        time.sleep(0.5)
    return time.monotonic() - began


def sql(fleet: Fleet, statement: str, host: str = "") -> list[str]:
    """Lines of an answer, by the socket of the leader or of `host`, as the superuser."""
    words = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", DATABASE, "-c")
    return inside(fleet, host or leader(fleet), *words, statement).splitlines()


def make_tables(fleet: Fleet) -> None:
    """What writers and watchers write into; the application's user owns it."""
    made = (f"CREATE TABLE IF NOT EXISTS {t} (id text PRIMARY KEY)" for t in TABLES)
    sql(fleet, "; ".join(["SET ROLE jukebox", *made]))


def drop_tables(fleet: Fleet) -> None:
    sql(fleet, "; ".join(f"DROP TABLE IF EXISTS {table}" for table in TABLES))


def present(fleet: Fleet, run: str) -> list[str]:
    """The rows and probes of a run that the leader has."""
    parts = (f"SELECT id FROM {table} WHERE id LIKE '{run}-%'" for table in TABLES)
    return sql(fleet, " UNION ALL ".join(parts))


def version(fleet: Fleet, host: str) -> str:
    """Of the PostgreSQL that runs there."""
    return sql(fleet, "SHOW server_version", host)[0].split()[0]


def amcheck(fleet: Fleet) -> None:
    """Every table and index of the application's database, on the leader. BacklineError if damaged."""
    host = leader(fleet)
    program = "/usr/lib/postgresql/15/bin/pg_amcheck"
    checks = ("--heapallindexed", "--parent-check", "--install-missing")
    words = ("runuser", "-u", "postgres", "--", program, *checks, f"--database={DATABASE}")
    try:
        inside(fleet, host, *words, timeout=300)
    finally:
        sql(fleet, "DROP EXTENSION IF EXISTS amcheck", host)
