"""What PostgreSQL is doing: slow statements, locks, what vacuum left; and sessions that have to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    MESSAGE_HELP,
    YES_HELP,
    confirm,
    environment,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.database.look import View
    from backline.operations.database.sessions import Costs, Session
    from backline.operations.database.tables import Table
    from backline.transport.fleet import SshFleet

VERBATIM_HELP = "show statements as they are, literals and all: they may be somebody's data"
MOST = 200
HOURS = 6
ORDERS = ("dead", "age", "size")


@operation(
    help={
        "env": ENV_HELP,
        "member": "of which member (default: all, and the costs of the leader)",
        "limit": "how many of each",
        "verbatim": VERBATIM_HELP,
        "json": JSON_HELP,
    }
)
def slow(
    c: Context,
    env: str = "",
    member: str = "",
    limit: int = 10,
    verbatim: bool = False,
    json: bool = False,
) -> None:
    """Show the statements that run longest, and those that took most time in all since statistics began.

    Without their literals, which may be somebody's data, unless --verbatim. Exit 1 when a member does not
    answer; the others are shown. docs/how-to/database-work.md

    Examples:
        fab db.slow --env lab
        fab db.slow --env lab --member db2 --limit 30
    """
    from backline.operations.database import sessions

    _check(limit)
    fleet = environment(env)
    with reach(fleet) as hosts, _told():
        view, name = _look(fleet, hosts, member)
        names = [member] if member else [one.name for one in view.members if one.host]
        chosen = {one: view.host(one) for one in names}
        found, silent = sessions.running(hosts, chosen, _who(""), limit)
        if not member:
            silent |= view.away
        costs = _costs(hosts, view, name, limit, silent)
    _show_slow(found, costs, silent, verbatim, json)
    if silent:
        raise BacklineError(
            wording.each(silent.items()),
            hosts=silent,
            state="nothing was changed",
            hint="fab db.status",
        )


def _costs(hosts: SshFleet, view: View, name: str, limit: int, silent: dict[str, str]) -> Costs:
    """What statements cost on this member. One that does not say is among the `silent` from then on."""
    from backline.operations.database import sessions
    from backline.transport.port import HostError

    if name not in silent:
        try:
            return sessions.costliest(hosts, name, view.host(name), _who(""), limit)
        except HostError as error:
            silent[name] = error.message
    return sessions.Costs(unknown=f"{name} does not say")


def _show_slow(
    found: list[Session], costs: Costs, silent: dict[str, str], verbatim: bool, as_json: bool
) -> None:
    from backline import console

    if as_json:
        for session in found:
            console.line(session.as_json(verbatim))
        for statement in costs.statements:
            console.line(statement.as_json(verbatim))
        for member, why in silent.items():
            console.line({"schema_version": 1, "event": "silent", "member": member, "why": why})
        return
    console.show_sessions(found, verbatim)
    if not found and not silent:
        console.console().print("no statement runs, and no transaction is open", markup=False)
    console.show_statements(costs.statements, verbatim)
    if costs.unknown:
        text = f"costs are not known: {costs.unknown}"
        console.console().print(text, style="yellow", markup=False, soft_wrap=True)


@operation(
    help={
        "env": ENV_HELP,
        "member": "of which member (default: the leader)",
        "verbatim": VERBATIM_HELP,
        "json": JSON_HELP,
    }
)
def locks(
    c: Context, env: str = "", member: str = "", verbatim: bool = False, json: bool = False
) -> None:
    """Show who waits for whose lock, as a tree: who holds all others up stands on top.

    Examples:
        fab db.locks --env lab
        fab db.locks --env lab --member db2
    """
    from backline import console
    from backline.operations.database import sessions

    fleet = environment(env)
    with reach(fleet) as hosts, _told():
        view, name = _look(fleet, hosts, member)
        found = sessions.locks(hosts, name, view.host(name), _who(""))
    if json:
        for session in found:
            console.line(session.as_json(verbatim))
    elif found:
        console.show_locks(sessions.tree(found), verbatim)
    else:
        console.console().print(f"nobody waits for a lock on {name}", markup=False)


@operation(
    help={
        "table": "vacuum and analyze this one: [SCHEMA.]TABLE (default: list tables)",
        "database": "of which database (default: all but postgres)",
        "by": "sort by: dead (rows), age (transactions), size",
        "limit": "how many to list",
        "seconds": "how long it may take",
        "env": ENV_HELP,
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    },
    choices={"by": ORDERS},
)
def vacuum(
    c: Context,
    table: str = "",
    database: str = "",
    by: str = "dead",
    limit: int = 20,
    seconds: int = 3600,
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """List tables by what vacuum left; --table vacuums one on the leader, never FULL, beside all traffic.

    Gives up after 5 s when somebody has the table locked.

    Examples:
        fab db.vacuum --env lab --by age
        fab db.vacuum --env lab --table public.music_play
    """
    from backline import console
    from backline.operations.database import tables

    _check(limit)
    if by not in ORDERS or not 1 <= seconds <= HOURS * 3600:
        raise BacklineError(
            f"--by is one of {', '.join(ORDERS)}, --seconds 1 to {HOURS * 3600}",
            state="nothing was changed",
        )
    fleet = environment(env)
    with reach(fleet) as hosts, _told():
        view, name = _look(fleet, hosts, "")
        host, who = view.host(name), _who(message)
        if not table:
            _show_tables(tables.worst(hosts, host, who, database, by, limit), json)
            return
        chosen = tables.find(hosts, host, who, database, table)
        _show_tables([chosen], json)
        if dry_run:
            return
        confirm(fleet, 1, yes, json)
        answer = _vacuum(hosts, host, who, chosen, seconds)
        with _told(f"{chosen.name} was vacuumed and analyzed"):
            now = tables.find(hosts, host, who, chosen.database, f"{chosen.schema}.{chosen.name}")
    if json:
        what = {"event": "vacuumed", **_named(chosen)}
        console.line({"schema_version": 1, **what, **_plain(answer)})
        console.line(now.as_json())
    else:
        text = f"{chosen.schema}.{chosen.name} vacuumed and analyzed in {answer['seconds']:.1f} s: "
        text += f"{chosen.dead} dead rows before, {now.dead} now"
        console.console().print(text, style="green", markup=False)


@operation(
    positional=["pid"],
    help={
        "pid": "which session, the first word: its process ID in fab db.slow or fab db.locks",
        "terminate": "end the session, not only what it does just now",
        "member": "on which member (default: the leader)",
        "verbatim": VERBATIM_HELP,
        "env": ENV_HELP,
        "json": JSON_HELP,
        "dry_run": "show what it does and end",
        "yes": "answer the question: 1, the session",
        "message": MESSAGE_HELP,
    },
)
def kill(
    c: Context,
    pid: str,
    terminate: bool = False,
    member: str = "",
    verbatim: bool = False,
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Cancel what a session does, or --terminate it. Never Patroni's, replication's, superusers'.

    A session that is idle in a transaction keeps its locks until it is terminated; what it had not committed
    is rolled back. Refused (6) for sessions that nobody may end.

    Examples:
        fab db.kill 4711 --env lab --dry-run
        fab db.kill 4711 --env lab --terminate --message 'holds up all writes'
    """
    from backline import console
    from backline.operations.database import sessions

    if not pid.isascii() or not pid.isdecimal() or int(pid) == 0:
        raise BacklineError(f"{pid!r} is no process ID", state="nothing was changed")
    fleet = environment(env)
    who = _who(message)
    with reach(fleet) as hosts, _told():
        view, name = _look(fleet, hosts, member)
        found = sessions.one(hosts, name, view.host(name), int(pid), who)
        if found is None:
            raise BacklineError(
                f"{name} has no session {pid}",
                state="nothing was changed",
                hint="fab db.slow names the member of each session before its PID: --member NAME",
            )
        if json:
            console.line(found.as_json(verbatim))
        else:
            console.show_sessions([found], verbatim)
        _refuse(found)
        if dry_run:
            return
        confirm(fleet, 1, yes, json, "session")
        how = "terminate" if terminate else "cancel"
        fields = {"action": "signal", "how": how, "pid": found.pid, "started": found.started}
        with _told(change=True):
            hosts.call(view.host(name), "database", {**who, **fields}, deadline=30.0)
        with _told(f"session {found.pid} was told; what came of it is not known"):
            left = sessions.one(hosts, name, view.host(name), found.pid, who)
    text = _outcome(found, left, terminate)
    if json:
        console.line({"schema_version": 1, "event": "signalled", "how": how, "text": text})
    else:
        console.console().print(text, markup=False)


def _show_tables(found: Sequence[Table], as_json: bool) -> None:
    from backline import console

    if not as_json:
        console.show_tables(found)
        return
    for one in found:
        console.line(one.as_json())


def _vacuum(
    hosts: SshFleet, host: str, who: dict[str, Any], table: Table, seconds: int
) -> dict[str, Any]:
    """Vacuums a table and answers what the host says. Ctrl-C is told with what it leaves."""
    fields = {**who, "action": "vacuum", "seconds": seconds, **_named(table)}
    try:
        with _told(change=True):
            return dict(hosts.call(host, "database", fields, deadline=seconds + 30.0))
    except KeyboardInterrupt:
        raise BacklineError(
            "interrupted",
            hosts=[host],
            state="the vacuum there ends within seconds; what it did is kept",
            hint="the same command again",
            exit_code=Exit.INTERRUPTED,
        ) from None


def _named(table: Table) -> dict[str, str]:
    return {"database": table.database, "schema": table.schema, "table": table.name}


def _look(fleet: Environment, hosts: SshFleet, member: str) -> tuple[View, str]:
    """The cluster, and the member that is meant: by itself the one that leads."""
    from backline.operations.database import look

    view = look.collect(hosts, fleet.groups.get("database", ()))
    name = member or view.leader
    if name is None:
        raise BacklineError(
            "nobody leads; name a member: --member NAME",
            state="nothing was changed",
            hint="fab db.status",
        )
    return view, name


def _refuse(found: Session) -> None:
    if found.protected:
        raise BacklineError(
            f"session {found.pid} is left alone: {found.protected}",
            state="nothing was changed",
            hint="on the host itself, if it must be: patronictl, systemctl",
            exit_code=Exit.GUARD_REFUSED,
        )


def _outcome(found: Session, left: Session | None, terminate: bool) -> str:
    if left is None or left.started != found.started:
        return f"session {found.pid} has ended; what it had not committed is rolled back"
    if terminate:
        return f"session {found.pid} was told to end, and is about to"
    if left.state == "active" and left.query == found.query:
        return f"session {found.pid} was told to stop, and still works; --terminate ends it"
    if (left.state or "").startswith("idle in transaction"):
        return f"session {found.pid} keeps its transaction and its locks: --terminate ends both"
    return f"session {found.pid} does something else now"


@contextmanager
def _told(state: str = "nothing was changed", change: bool = False) -> Iterator[None]:
    """What a host refuses, as people read it. `change`: it is told to do something."""
    from backline.transport.port import HostError

    try:
        yield
    except HostError as error:
        found = error.state(state) if change else state
        raise error.for_people(found, "fab db.status") from None


def _check(limit: int) -> None:
    if not 1 <= limit <= MOST:
        raise BacklineError(f"--limit is a number from 1 to {MOST}", state="nothing was changed")


def _who(message: str) -> dict[str, Any]:
    return new_run("database", message).who


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ok"}
