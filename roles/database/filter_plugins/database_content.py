"""Finds what in the inventory's users, databases and grants cannot work, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

RESERVED = (
    *("postgres", "replicator", "rewind", "pgbouncer", "pgbouncer_lookup"),
    *("backline_reader", "backline_writer"),
)
"""Accounts of the system's own."""
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}", re.IGNORECASE)
"""Names that need no quotes in pg_hba.conf and pgbouncer.ini."""
RESERVE = 20
"""Connections that pools leave to Patroni, people, exporters and backups."""


def database_mistakes(given: dict[str, Any]) -> list[str]:
    """Return what is wrong with the role's variables, a sentence each that says what to do.

    given: users, databases, grants, pool_size, connections (max_connections), members (how many),
    strict, archive_mode, archive_command.
    """
    judges = (users, databases, grants, pools, settings)
    return [mistake for judge in judges for mistake in judge(given)]


def twice(names: list[str]) -> list[str]:
    """Return the names that are in a list more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def users(given: dict[str, Any]) -> Iterator[str]:
    """Names that are reserved, double or need quotes."""
    names = [user["name"] for user in given["users"]]
    for name in names:
        if name in RESERVED or name.startswith("pg_"):
            yield f"database_users: {name} is an account of the system's own; choose another name."
        elif not NAME.fullmatch(name):
            yield f"database_users: {name!r} is no plain name (letters, digits, _ and -)."
    for name in twice(names):
        yield f"database_users names {name} twice."


def databases(given: dict[str, Any]) -> Iterator[str]:
    """Names that need quotes, and owners that nobody makes."""
    names = {user["name"] for user in given["users"]}
    for database in given["databases"]:
        name = database["name"]
        if not NAME.fullmatch(name) or name in ("pgbouncer", "template0", "template1"):
            yield f"database_databases: {name!r} cannot be the name of a database."
        if database["owner"] not in names:
            yield (
                f"database_databases: {name} belongs to {database['owner']}, whom database_users does not "
                "name."
            )
    for name in twice([database["name"] for database in given["databases"]]):
        yield f"database_databases names {name} twice."


def grants(given: dict[str, Any]) -> Iterator[str]:
    """Grants in a database or to a role that nobody makes."""
    roles = {user["name"] for user in given["users"]} | {"PUBLIC", "public"}
    known = {database["name"] for database in given["databases"]}
    for grant in given["grants"]:
        if grant["database"] not in known:
            yield f"database_grants: database_databases does not name {grant['database']}."
        for role in grant["roles"]:
            if role not in roles:
                yield f"database_grants: database_users does not name {role}."
        if grant.get("type") == "default_privs" and not grant.get("owner"):
            yield (
                f"database_grants: default_privs in {grant['database']} need an owner, whose new objects "
                "they are for."
            )


def pools(given: dict[str, Any]) -> Iterator[str]:
    """Pools that could ask for more connections than PostgreSQL has."""
    sizes = [int(one.get("pool_size", given["pool_size"])) for one in given["databases"]]
    room = int(given["connections"]) - RESERVE
    if sum(sizes) > room:
        yield (
            f"The pools may take {sum(sizes)} connections and database_max_connections leaves {room} "
            f"({RESERVE} are kept for others): make database_pool_size smaller or the other greater."
        )


def settings(given: dict[str, Any]) -> Iterator[str]:
    """Settings that contradict each other."""
    if given["strict"] and given["members"] < 3:
        yield (
            "database_synchronous_mode_strict needs three members: with fewer, the loss of one "
            "would stop every write."
        )
    if given["archive_command"] and given["archive_mode"] == "off":
        yield "database_archive_command is set and database_archive_mode is off: nothing would be archived."


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {"database_mistakes": database_mistakes}
