"""Two things that only PostgreSQL's superuser may do, and no SQL of anybody else: end what one session
does, and vacuum one table. Root is the superuser over the socket (roles/database).
"""

from __future__ import annotations

import json

from . import listener, record
from .cluster import ENDS_WITH_US, Patroni, Settings
from .errors import HostctlError, Refused, UsageError
from .host import Host
from .names import Request

NAME_LIMIT = 63
LOCK_WITHIN = 5.0
OURS = "hostctl"  # what our own sessions are called: a vacuum that nobody waits for may end
SIGNALS = {"cancel": "pg_cancel_backend", "terminate": "pg_terminate_backend"}
# Nobody stands in for a session that ended meanwhile: its number may be another one's by now.
SIGNAL = """
with seen as (
  select a.*, coalesce(r.rolsuper, true) as super, coalesce(r.rolreplication, true) as replicates
  from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid
  where a.pid = {pid} and (extract(epoch from a.backend_start) * 1000000)::bigint = {started}
)
select json_build_object('who', usename, 'state', case
  when backend_type <> 'client backend' then 'it is no client''s but PostgreSQL''s own: ' || backend_type
  when replicates and application_name <> '{ours}' then 'it replicates, and a standby would be cut off'
  when super and application_name <> '{ours}' then 'it is the superuser''s, such as Patroni''s'
  when {signal}(pid) then 'signalled' else 'gone' end)
from seen
"""


def signal(host: Host, settings: Settings, request: Request) -> dict[str, object]:
    """Cancel what a session does, or terminate it. Returns {signalled, who}.

    `started`: when the session began, in microseconds since the epoch, as pg_stat_activity has it.
    Raises `Refused` (protected) for PostgreSQL's own, replication's and superusers', `HostctlError`
    (no_session, sql_failed).
    """
    how = request.choice("how", tuple(SIGNALS))
    pid = request.integer("pid", minimum=1, maximum=2**31)
    started = request.integer("started", minimum=1, maximum=2**53)
    record.announce(host, request, "begin", action="signal", how=how, pid=pid)
    said = _psql(
        host,
        settings,
        "postgres",
        SIGNAL.format(pid=pid, started=started, signal=SIGNALS[how], ours=OURS),
        10.0,
    )
    found = json.loads(said) if said.strip() else {"who": None, "state": "gone"}
    if found["state"] == "gone":
        raise HostctlError("no_session", f"there is no session {pid} any more", "look again")
    if found["state"] != "signalled":
        raise Refused("protected", f"session {pid} is left alone: {found['state']}")
    record.announce(host, request, "done", action="signal", how=how, pid=pid, who=found["who"])
    return {"signalled": True, "who": found["who"]}


def vacuum(host: Host, settings: Settings, request: Request) -> dict[str, object]:
    """VACUUM (ANALYZE) of one table on the leader, never FULL, as gently as autovacuum. Returns {seconds}.

    It gives up when it cannot have the table within 5 s, and ends when nobody waits for it any more: what it
    did until then is kept, and a table is never the worse for it. Raises `Refused` (not_leader),
    `HostctlError` (sql_failed, deadline).
    """
    database = _identifier(request, "database")
    schema, table = _identifier(request, "schema"), _identifier(request, "table")
    seconds = request.seconds("seconds", 3600.0, minimum=1, maximum=6 * 3600)
    leader = Patroni(host, settings).cluster().leader
    if leader is None or leader["name"] != settings.name:
        raise Refused(
            "not_leader",
            f"{settings.name} does not lead: a standby is vacuumed by its leader; nothing was changed",
            "ask the leader: fab db.status",
        )
    what = {"action": "vacuum", "database": database, "table": f"{schema}.{table}"}
    record.announce(host, request, "begin", **what)
    began = host.boottime()
    try:
        sql = f"vacuum (analyze) {_quoted(schema)}.{_quoted(table)}"
        with listener.listened():
            _psql(host, settings, database, sql, seconds)
    except HostctlError as error:
        record.announce(host, request, "failed", error=error.code, **what)
        raise
    record.announce(host, request, "done", **what)
    return {"seconds": round(host.boottime() - began, 3)}


def _psql(host: Host, settings: Settings, database: str, sql: str, seconds: float) -> str:
    argv = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"]
    argv += ["--set=ON_ERROR_STOP=1", f"--host={settings.socket_dir}", f"--port={settings.port}"]
    options = (
        f"-c statement_timeout={int(seconds * 1000)} -c lock_timeout={int(LOCK_WITHIN * 1000)}"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/",
        "PGDATABASE": database,  # not --dbname, which takes a name with a = for a connection string
        "PGOPTIONS": f"{options} -c vacuum_cost_delay=2 {ENDS_WITH_US}",
        "PGAPPNAME": OURS,
    }
    ended = host.run(
        [*argv, "--username=postgres", f"--command={sql}"], timeout=seconds + 5, env=environment
    )
    if ended.status is None:
        raise HostctlError("deadline", f"it took longer than {seconds:g} s and was ended")
    if ended.status != 0:
        said = ended.err.strip()[:1000] or f"psql ended with {ended.status}"
        raise HostctlError("sql_failed", said, "nothing was changed")
    return ended.out


def _identifier(request: Request, field: str) -> str:
    """A name in PostgreSQL, in any letters."""
    value = request.text(field)
    good = value == request.fields.get(field) and 0 < len(value.encode()) <= NAME_LIMIT
    if not good:
        raise UsageError(
            "bad_field", f"database: {field} must be a name of 1 to {NAME_LIMIT} bytes"
        )
    return value


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
