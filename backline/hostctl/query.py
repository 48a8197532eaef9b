"""One SQL statement by an operator, as a role that can do no more than read, or write rows.

`backline_reader` may read every table and nothing else; `backline_writer` may change rows too. Neither
owns anything, nor is a superuser: no statement of theirs reaches the host's files or programs.
"""

from __future__ import annotations

from . import cluster, listener, record
from .cluster import Settings
from .errors import HostctlError, UsageError
from .host import Host
from .names import Request

READER, WRITER = "backline_reader", "backline_writer"
SQL_LIMIT = 16 * 1024
OUTPUT_LIMIT = 512 * 1024
FORMATS = ("aligned", "csv")


def run(host: Host, settings: Settings, request: Request) -> dict[str, object]:
    """Returns {output, cut, role}. Raises `UsageError`, or `HostctlError` (sql_failed, deadline)."""
    statement = sql(request)
    write = request.boolean("write")
    name = request.server("database") if request.has("database") else "postgres"
    seconds = request.seconds("seconds", 30.0, minimum=1, maximum=600)
    form = request.choice("format", FORMATS) if request.has("format") else "aligned"
    role = WRITER if write else READER
    argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1"]
    argv += ["--csv"] if form == "csv" else []
    argv += [f"--host={settings.socket_dir}", f"--port={settings.port}", f"--username={role}"]
    record.announce(host, request, "done", action="query", role=role, sql=statement[:500])
    options = f"-c statement_timeout={int(seconds * 1000)} {cluster.ENDS_WITH_US}"
    if not write:
        options += " -c default_transaction_read_only=on"
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/",
        "PGOPTIONS": options,
        "PGAPPNAME": "fab db.psql",
    }
    argv += [f"--dbname={name}", f"--command={statement}"]
    with listener.listened():
        ended = host.run(argv, timeout=seconds + 5, env=environment)
    if ended.status is None:
        raise HostctlError("deadline", f"it took longer than {seconds:g} s and was ended")
    if ended.status != 0:
        said = ended.err.strip()[:2000] or f"psql ended with {ended.status}"
        raise HostctlError("sql_failed", said, "nothing of a statement that fails is kept")
    text = ended.out
    return {"output": text[:OUTPUT_LIMIT], "cut": len(text) > OUTPUT_LIMIT, "role": role}


def sql(request: Request) -> str:
    """The statement. psql takes a command that begins with a backslash for one of its own (a shell is
    among them), and any other for SQL alone: so the first character is all that has to be refused."""
    statement = request.fields.get("sql")
    if not isinstance(statement, str) or not statement.strip() or "\0" in statement:
        raise UsageError("bad_field", "database: sql must be a statement")
    if len(statement.encode("utf-8", "replace")) > SQL_LIMIT:
        raise UsageError("too_large", f"database: sql may have {SQL_LIMIT} bytes")
    statement = statement.strip()
    if statement.startswith("\\"):
        raise UsageError(
            "bad_field",
            "database: sql may be SQL only, none of psql's own commands; nothing was run",
            "\\dt is: select schemaname, tablename from pg_tables",
        )
    return statement
