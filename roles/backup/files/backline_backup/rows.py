"""Compares rows of a cluster that goes on working with rows of one restored to a moment in between.

The leader's rows are summed up twice, before the moment and after it, in pieces of PIECE pages; only
rows whose transaction was over before the first sum (`xmin` below a horizon) count, so that new rows
do not matter. A piece that is the same both times has not changed in between, for a row that is gone
or changed never comes back under its old transaction: the restored cluster has to have exactly that.
A piece that differs is busy and says nothing. So nothing has to be locked, and no write can make a
good backup look bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

PIECE = 128
"""Pages in a piece: 1 MiB."""


@dataclass(frozen=True, order=True)
class Table:
    """A table: its name as the server quotes it, and its number, which another of that name has not."""

    name: str
    oid: int


Sums = Mapping[Table, Mapping[str, str]]
"""Table → piece → how many rows and what they hash to."""

HORIZON = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint;"

DATABASES = """select to_json(datname) from pg_database
where datallowconn and not datistemplate and has_database_privilege(oid, 'connect') order by datname;"""

# Rows that a policy hides from one user and not from another cannot be compared.
TABLES = """select json_build_array(format('%I.%I', n.nspname, c.relname),
  c.oid::bigint, pg_table_size(c.oid))
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and c.relpersistence = 'p' and not c.relrowsecurity
and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') order by 1::text;"""


@dataclass(frozen=True)
class Comparison:
    """`differing`: where the restored rows are wrong, as table and piece. `idle`: tables of which at
    least one piece, or that it is empty, could be compared."""

    pieces: int
    busy: int
    idle: int
    differing: tuple[str, ...] = field(default=())


def sums(tables: Iterable[Table], horizon: int) -> str:
    """The statement for each table, in one snapshot."""
    selects = [_sum(number, table.name, horizon) for number, table in enumerate(tables)]
    return "begin isolation level repeatable read read only;\n" + "\n".join(selects) + "\ncommit;"


def _sum(number: int, table: str, horizon: int) -> str:
    # Transaction numbers are 32 bits that wrap around: before the horizon is less than half of them back.
    before = f"(({horizon % 2**32} - xmin::text::bigint) & 4294967295) between 1 and 2147483647"
    return f"""select json_build_object('table', {number},
  'pieces', coalesce(json_object_agg(piece, total), '{{}}'))
from (select (ctid::text::point)[0]::bigint / {PIECE} as piece,
count(*) || ':' || sum(hashtextextended(xmin::text || backline_row::text, 0)::numeric) as total
from only {table} as backline_row where {before} group by 1) as pieces;"""


def compare(before: Sums, after: Sums, restored: Sums) -> Comparison:
    """What can be said of the tables that are in `before` and in `after`."""
    pieces, busy, idle, differing = 0, 0, 0, []
    for table in sorted(set(before) & set(after)):
        known = set(before[table]) | set(after[table])
        still = {piece for piece in known if before[table].get(piece) == after[table].get(piece)}
        pieces += len(still)
        busy += len(known - still)
        idle += bool(still) or not known
        if table not in restored:
            differing.append(f"{table.name} is missing")
            continue
        wrong = {piece for piece in still if restored[table].get(piece) != before[table][piece]}
        wrong |= set(restored[table]) - known
        differing += [
            f"{table.name}, pages from {int(piece) * PIECE}" for piece in sorted(wrong, key=int)
        ]
    return Comparison(pieces, busy, idle, tuple(differing))
