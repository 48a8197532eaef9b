"""Tables by what vacuum has left to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backline.errors import BacklineError
from backline.operations.database import ask
from backline.transport.port import Fleet

NAME = 63
BYTES = """case when c.oid in (select l.relation from pg_locks l join pg_database d on d.oid = l.database
    where l.mode = 'AccessExclusiveLock' and d.datname = current_database())
  then c.relpages::bigint * current_setting('block_size')::bigint else pg_table_size(c.oid) end"""
"""pg_table_size takes a lock: behind who has a table locked, or waits to, it would wait as well. Such a
table is as large as it was when it was last vacuumed or analyzed."""
TABLES = f"""
select current_database() as database, s.schemaname as schema, s.relname as name,
  s.n_live_tup as live, s.n_dead_tup as dead, age(c.relfrozenxid) as age,
  {BYTES} as bytes,
  extract(epoch from greatest(s.last_vacuum, s.last_autovacuum))::float as vacuumed,
  extract(epoch from greatest(s.last_analyze, s.last_autoanalyze))::float as analyzed
from pg_stat_all_tables s join pg_class c on c.oid = s.relid
where c.relkind in ('r', 'm') and not pg_is_other_temp_schema(c.relnamespace) and ({{which}})
order by {{order}} desc limit {{limit}}
"""
WORTH_A_LOOK = """s.schemaname not in ('pg_catalog', 'information_schema', 'pg_toast')
  or s.n_dead_tup > 10000 or age(c.relfrozenxid) > 200000000"""
"""PostgreSQL's own tables are left out while nothing is wrong with them (its own vacuum starts at
200 million transactions)."""
ORDERS = {"dead": "s.n_dead_tup", "age": "age(c.relfrozenxid)", "size": "bytes"}


@dataclass(frozen=True)
class Table:
    """A table. `live` and `dead` are rows, as far as known; `age` is in transactions: at 2 billion
    PostgreSQL stops. `vacuumed`, `analyzed`: seconds since the epoch, None never."""

    database: str
    schema: str
    name: str
    live: int
    dead: int
    age: int
    bytes: int
    vacuumed: float | None
    analyzed: float | None

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "table", **vars(self)}


def worst(
    fleet: Fleet, host: str, who: Mapping[str, Any], database: str, by: str, limit: int
) -> list[Table]:
    """The tables with the most dead rows, the greatest age or size. Raises HostError."""
    sql = TABLES.format(which=WORTH_A_LOOK, order=ORDERS[by], limit=limit)
    keys = {"dead": "dead", "age": "age", "size": "bytes"}
    found = _tables(fleet, host, who, database, sql)
    return sorted(found, key=lambda table: -getattr(table, keys[by]))[:limit]


def _tables(
    fleet: Fleet, host: str, who: Mapping[str, Any], database: str, sql: str
) -> list[Table]:
    return [
        Table(**row)
        for name in ask.databases(fleet, host, who, database)
        for row in ask.rows(fleet, host, sql, who, name)
    ]


def find(fleet: Fleet, host: str, who: Mapping[str, Any], database: str, table: str) -> Table:
    """The one table that is meant: `schema.table`, or `table`. Raises BacklineError."""
    name = "'" + table.replace("'", "''") + "'"
    which = f"{name} in (s.relname::text, s.schemaname || '.' || s.relname)"
    sql = TABLES.format(which=which, order=ORDERS["dead"], limit="all")
    found = _tables(fleet, host, who, database, sql)
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{one.database}: {one.schema}.{one.name}" for one in found)
    raise BacklineError(
        f"which table? {names}" if found else f"there is no table {table}",
        state="nothing was changed",
        hint="--table SCHEMA.TABLE and --database NAME say which one; fab db.vacuum lists tables",
    )
