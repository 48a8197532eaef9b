"""Who does what in PostgreSQL, for how long, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backline.operations.database import ask
from backline.operations.database.text import normalised, one_line
from backline.transport.port import Fleet, HostError

PREPARED = 0
"""Instead of a process ID: a prepared transaction, which belongs to no session."""
OURS = "hostctl"
"""What hostctl calls its own sessions: a vacuum that nobody waits for any more may be ended."""
TEXT = 4000
COLUMNS = f"""
  a.pid, a.usename as "user", a.datname as database, a.application_name as application,
  host(a.client_addr) as client, a.state, a.backend_type as kind,
  case when a.wait_event is not null then a.wait_event_type || ': ' || a.wait_event end as waits,
  extract(epoch from clock_timestamp() - a.xact_start)::float as transaction,
  extract(epoch from clock_timestamp() - a.query_start)::float as statement,
  (extract(epoch from a.backend_start) * 1000000)::bigint as started,
  coalesce(r.rolsuper, true) as super, coalesce(r.rolreplication, true) as replicates,
  left(a.query, {TEXT}) as query
"""
FROM = "from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid"
NOT_ME = "a.pid <> pg_backend_pid()"
RUNNING = f"""
select {COLUMNS} {FROM} where {NOT_ME} and a.backend_type = 'client backend' and a.state <> 'idle'
order by coalesce(a.xact_start, a.query_start) limit {{limit}}
"""
ONE = f"select {COLUMNS} {FROM} where a.pid = {{pid}}"
LOCKS = f"""
with waiting as materialized (
  select pid, pg_blocking_pids(pid) as by from pg_stat_activity where wait_event_type = 'Lock'
), concerned as (select pid from waiting union select unnest(by) from waiting)
select {COLUMNS}, coalesce(w.by, '{{}}') as by, l.mode, l.locktype as lock, l.relation::bigint as relation
{FROM} left join waiting w on w.pid = a.pid
left join lateral (select mode, locktype, relation from pg_locks
  where pid = a.pid and not granted limit 1) l on true
where a.pid in (select pid from concerned)
"""
NAMES = "select oid::bigint as oid, oid::regclass::text as name from pg_class where oid in ({oids})"
STATEMENTS_THERE = """
select n.nspname as schema,
  exists (select from pg_settings where name = 'pg_stat_statements.max') as loaded
from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'
"""
STATEMENTS = """
select d.datname as database, r.rolname as "user", s.calls, s.total_exec_time / 1000 as seconds,
  s.mean_exec_time as mean_ms, s.rows, left(s.query, 4000) as query
from {schema}.pg_stat_statements s left join pg_database d on d.oid = s.dbid
left join pg_roles r on r.oid = s.userid order by s.total_exec_time desc limit {limit}
"""


@dataclass(frozen=True)
class Session:
    """A session. Times are in seconds; `started` in microseconds since the epoch tells it from a later
    one with the same process ID. `by`: whom it waits for; `wants`: the lock it waits for."""

    member: str
    pid: int
    user: str | None
    database: str | None
    application: str
    client: str | None
    state: str | None
    kind: str
    waits: str | None
    transaction: float | None
    statement: float | None
    started: int
    super: bool
    replicates: bool
    query: str
    by: tuple[int, ...] = ()
    wants: str | None = None

    @property
    def protected(self) -> str | None:
        """Why nobody may end it, or None; its host judges once more."""
        if self.kind != "client backend":
            return f"it is no client's but PostgreSQL's own: {self.kind}"
        if self.application == OURS:
            return None
        if self.replicates:
            return "it replicates, and a standby would be cut off"
        return "it is the superuser's, such as Patroni's" if self.super else None

    def as_json(self, verbatim: bool) -> dict[str, Any]:
        """The NDJSON line."""
        shown = {**vars(self), "query": self.text(verbatim), "protected": self.protected}
        return {"schema_version": 1, "event": "session", **shown}

    def text(self, verbatim: bool) -> str:
        """The statement: without its literals, unless they are wanted."""
        return one_line(self.query) if verbatim else normalised(self.query)


@dataclass(frozen=True)
class Statement:
    """What a kind of statement cost since the statistics began."""

    member: str
    database: str | None
    user: str | None
    calls: int
    seconds: float
    mean_ms: float
    rows: int
    query: str

    def as_json(self, verbatim: bool) -> dict[str, Any]:
        """The NDJSON line."""
        text = one_line(self.query) if verbatim else normalised(self.query)
        return {"schema_version": 1, "event": "statement", **vars(self), "query": text}


@dataclass(frozen=True)
class Costs:
    """What statements cost, the dearest first; or why that is not known."""

    statements: tuple[Statement, ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Knot:
    """A session in the tree of those who wait: `depth` 0 waits for nobody. None: a prepared transaction."""

    depth: int
    session: Session | None


def running(
    fleet: Fleet, hosts: Mapping[str, str], who: Mapping[str, Any], limit: int
) -> tuple[list[Session], dict[str, str]]:
    """What runs on these members ({name: host}), the longest first; and who of them did not say, and why."""
    found: list[Session] = []
    silent: dict[str, str] = {}
    for name, host in hosts.items():
        try:
            rows = ask.rows(fleet, host, RUNNING.format(limit=limit), who)
        except HostError as error:
            silent[name] = error.message
        else:
            found += [session_of(name, row) for row in rows]
    found.sort(key=lambda s: -max(s.transaction or 0.0, s.statement or 0.0))
    return found[:limit], silent


def one(fleet: Fleet, member: str, host: str, pid: int, who: Mapping[str, Any]) -> Session | None:
    """A session by its process ID."""
    found = ask.rows(fleet, host, ONE.format(pid=int(pid)), who)
    return session_of(member, found[0]) if found else None


def costliest(fleet: Fleet, member: str, host: str, who: Mapping[str, Any], limit: int) -> Costs:
    """By pg_stat_statements, if any database has it: one tells of all. The role's is in `postgres`.
    Raises HostError."""
    for database in dict.fromkeys(("postgres", *ask.databases(fleet, host, who, ""))):
        there = ask.rows(fleet, host, STATEMENTS_THERE, who, database)
        if there and not there[0]["loaded"]:
            return Costs(
                unknown="pg_stat_statements waits for a restart: fab restart --on database"
            )
        if there:
            schema = '"' + str(there[0]["schema"]).replace('"', '""') + '"'
            sql = STATEMENTS.format(schema=schema, limit=limit)
            found = ask.rows(fleet, host, sql, who, database)
            return Costs(tuple(Statement(member=member, **row) for row in found))
    return Costs(unknown="no database has the extension pg_stat_statements")


def locks(fleet: Fleet, member: str, host: str, who: Mapping[str, Any]) -> list[Session]:
    """Who waits for a lock, and those they wait for."""
    found = ask.rows(fleet, host, LOCKS, who)
    names = _names(fleet, host, found, who)
    sessions = []
    for row in found:
        table = names.get((row["database"], row["relation"]), row["lock"])
        wants = f"{row['mode']} on {table}" if row["mode"] else None
        sessions.append(replace(session_of(member, row), by=tuple(row["by"]), wants=wants))
    return sessions


def _names(
    fleet: Fleet, host: str, found: Iterable[ask.Row], who: Mapping[str, Any]
) -> dict[tuple[Any, Any], str]:
    """Tables by database and number: each database knows the names of its own alone."""
    numbers: dict[str, set[int]] = {}
    for row in found:
        if row["relation"] is not None and row["database"]:
            numbers.setdefault(row["database"], set()).add(int(row["relation"]))
    known: dict[tuple[Any, Any], str] = {}
    for database, oids in numbers.items():
        sql = NAMES.format(oids=",".join(map(str, sorted(oids))))
        for row in ask.rows(fleet, host, sql, who, database):
            known[database, row["oid"]] = row["name"]
    return known


def tree(sessions: Iterable[Session]) -> list[Knot]:
    """Those who hold everybody up first, each followed by who waits for it.

    Who waits for several stands below the first of them. A circle, which PostgreSQL ends by itself within
    a second, is shown from any of its members.
    """
    known = {session.pid: session for session in sessions}
    below: dict[int, list[int]] = {}
    for session in known.values():
        for blocker in session.by[:1]:
            below.setdefault(blocker, []).append(session.pid)
    shown: set[int] = set()

    def walk(pid: int, depth: int) -> Iterator[Knot]:
        if pid in shown:
            return
        if pid != PREPARED:
            shown.add(pid)
        yield Knot(depth, known.get(pid))
        for waiter in sorted(below.get(pid, ())):
            yield from walk(waiter, depth + 1)

    roots = [pid for pid in known if not known[pid].by]
    gone = [pid for pid in below if pid not in known]
    knots = [knot for root in (*sorted(gone), *sorted(roots)) for knot in walk(root, 0)]
    for pid in sorted(known):  # circles have no root
        knots += walk(pid, 0)
    return knots


def session_of(member: str, row: Mapping[str, Any]) -> Session:
    """A session of a row of COLUMNS."""
    names = (
        *("pid", "user", "database", "application", "client", "state", "kind", "waits"),
        *("transaction", "statement", "started", "super", "replicates"),
    )
    known = {name: row[name] for name in names}
    return Session(member=member, query=row["query"] or "", **known)
