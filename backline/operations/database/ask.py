"""Questions to PostgreSQL through hostctl, as the role that only reads: one JSON object per row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from backline.errors import BacklineError
from backline.transport.port import Fleet

SECONDS = 15
SLACK = 20.0
FIELD_LIMIT = 16 * 1024 * 1024
DATABASES = (
    "select datname as name from pg_database where datallowconn and not datistemplate order by 1"
)

Row = dict[str, Any]


def rows(
    fleet: Fleet, host: str, sql: str, who: Mapping[str, Any], database: str = "postgres"
) -> list[Row]:
    """The rows of a `select`, by the names of its columns. Raises HostError, or BacklineError when the
    answer is longer than hostctl passes on."""
    whole = f"select row_to_json(asked) as row from ({sql}) asked"
    fields = {"action": "query", "sql": whole, "database": database, "format": "csv"}
    answer = fleet.call(
        host, "database", {**who, **fields, "seconds": SECONDS}, deadline=SECONDS + SLACK
    )
    if answer["cut"]:
        raise BacklineError(
            f"{host} has more to tell than fits into one answer",
            hosts=[host],
            hint="a lower --limit",
        )
    return parsed(answer["output"])


def parsed(output: str) -> list[Row]:
    """Rows out of CSV with one column of JSON."""
    csv.field_size_limit(FIELD_LIMIT)
    lines = list(csv.reader(io.StringIO(output)))
    return [json.loads(line[0]) for line in lines[1:] if line]


def databases(fleet: Fleet, host: str, who: Mapping[str, Any], name: str) -> list[str]:
    """The database that was named, or all but PostgreSQL's own."""
    if name:
        return [name]
    found = [str(row["name"]) for row in rows(fleet, host, DATABASES, who)]
    return [database for database in found if database != "postgres"] or found
