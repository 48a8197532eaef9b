"""The database cluster: how it is, and who leads it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks import backups, database_work, operator
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    MESSAGE_HELP,
    YES_HELP,
    confirm,
    environment,
    insist,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.database.judge import Plan

APP_GROUPS = ("streaming", "worker")
"""Hosts with a proxy that follows the database (playbooks/streaming.yml, worker.yml)."""


@operation(help={"env": ENV_HELP, "json": JSON_HELP})
def status(c: Context, env: str = "", json: bool = False) -> None:
    """Show who leads and who lags, etcd, PgBouncer, backups, the last drill. Exit 1 if anything is wrong.

    LAG is in bytes. Changes nothing. What is wrong stands below with a `!`: no leader, no majority of
    etcd, no synchronous standby, maintenance, a member or job that is ill.

    Examples:
        fab db.status --env production
        fab db --env lab --json | jq 'select(.event == "cluster")'
    """
    from backline import console
    from backline.operations.database import look

    fleet = environment(env)
    with reach(fleet) as hosts:
        view = look.collect(hosts, fleet.groups.get("database", ()))
        keeper, jobs, unknown = backups.known(fleet, hosts)
    if json:
        for member in view.members:
            console.line(member.as_json(view.scope))
        for job in jobs:
            console.line(job.as_json(keeper))
        if unknown:
            what = {"what": "backups", "why": unknown}
            console.line({"schema_version": 1, "event": "unknown", **what})
        console.line(
            {
                "schema_version": 1,
                "event": "cluster",
                "scope": view.scope,
                "leader": view.leader,
                "synchronous": view.synchronous,
                "paused": view.paused,
                "votes": view.voters,
                "quorum": view.quorum,
                "troubles": view.troubles,
            }
        )
    else:
        console.show_database(view, jobs, unknown)
    failed = [f"the last {job.name} failed" for job in jobs if job.ran and not job.good]
    failed += [f"backups: {unknown}"] if keeper and unknown else []
    if view.troubles or failed:
        raise BacklineError(
            "; ".join([*view.troubles, *failed]),
            hosts=view.silent,
            hint="docs/runbooks; a dead leader that nobody replaced: fab db.failover",
        )


@operation(
    help={
        "env": ENV_HELP,
        "to": "who is to lead (default: the synchronous standby)",
        "skip": "app hosts that are down anyway, an Ansible pattern: their proxies are not held",
        "linger": "seconds that old connections get to end by themselves",
        "patience": "seconds that running transactions get, while all others wait",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    }
)
def switchover(
    c: Context,
    env: str = "",
    to: str = "",
    skip: str = "",
    linger: int = 120,
    patience: int = 3,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Have another member lead: clients wait for seconds and see no error. Refused (6) when it is a risk.

    Proxies keep their connections, the leader hands over, old connections get --linger seconds to end
    by themselves. Refused (6) without a change while a member is missing, behind, or nobody could be
    elected. When it fails on the way (1) it has undone what it did. docs/how-to/switchover.md

    Examples:
        fab db.switchover --env production --dry-run
        fab db.switchover --env production --to db2 --message "db1 gets a new disk"
    """
    from backline.operations.database import judge, look
    from backline.operations.database.switchover import Switchover

    fleet = environment(env)
    members = fleet.groups.get("database", ())
    if not 0 <= linger <= 1500:
        raise BacklineError("--linger is a number of seconds from 0 to 1500")
    if not 1 <= patience <= 30:
        raise BacklineError("--patience is a number of seconds from 1 to 30")
    with reach(fleet) as hosts:
        view = look.collect(hosts, members)
        plan = judge.plan(view, to, _proxies(fleet, skip), float(linger), float(patience))
        _show(plan, json)
        if dry_run:
            return
        confirm(fleet, len(plan.hosts), yes, json)
        work = Switchover(hosts, plan, operator.clock(), _Teller(json), _who(message))
        ended = work.carry_out(members)
    for warning in ended.warnings:
        _Teller(json)("warning", warning, {})
    _Teller(json)("ended", f"{ended.leader} leads", {"leader": ended.leader, "cut": ended.cut})


@operation(
    help={
        "env": ENV_HELP,
        "to": "who is to lead (default: the best standby)",
        "accept_loss": "take one that may lack commits which clients were told of",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": "answer the question: 1, the member that will lead",
        "message": MESSAGE_HELP,
    }
)
def failover(
    c: Context,
    env: str = "",
    to: str = "",
    accept_loss: bool = False,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Make a standby the leader when the leader is dead and Patroni did not. Always asks first.

    Patroni does so by itself within some 20 seconds: this is for when it did not. Refused (6) while a
    leader lives (that is fab db.switchover), and for one that is not the synchronous standby, unless
    --accept-loss says that commits may be lost.

    Examples:
        fab db.failover --env production --dry-run
        fab db.failover --env production --yes 1 --message "db1 burnt"
    """
    from backline.operations.database import judge, look
    from backline.transport.port import HostError

    fleet = environment(env)
    tell = _Teller(json)
    with reach(fleet) as hosts:
        view = look.collect(hosts, fleet.groups.get("database", ()))
        name, host = judge.failover(view, to, accept_loss)
        loss = "; it MAY LACK commits that clients were told of" if accept_loss else ""
        tell("plan", f"{name} is to lead {view.scope}{loss}", {"to": name, "was": view.leader})
        if dry_run:
            return
        insist(fleet, 1, yes, json)
        fields = {"action": "failover", "candidate": name, "accept_loss": accept_loss}
        try:
            answer = hosts.call(host, "database", {**_who(message), **fields}, deadline=100.0)
        except HostError as error:
            raise error.for_people("fab db.status shows who leads") from None
    text = f"{answer['leader']} leads after {answer['seconds']:.1f} s"
    tell("ended", text, {"leader": answer["leader"], "seconds": answer["seconds"]})


@operation(
    help={
        "command": "the statement: SQL alone, none of psql's own commands",
        "env": ENV_HELP,
        "database": "which database (default: postgres)",
        "member": "which member to ask (default: a standby; with --write the leader)",
        "write": "as backline_writer on the leader instead of backline_reader on a standby",
        "seconds": "how long the statement may take",
        "json": JSON_HELP + ": {role, member, output} with the output as CSV",
        "dry_run": "say which member would be asked what, as whom, and end; nothing is run",
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    }
)
def psql(
    c: Context,
    command: str = "",
    env: str = "",
    database: str = "postgres",
    member: str = "",
    write: bool = False,
    seconds: int = 30,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Run one SQL statement as a role that only reads; with --write on the leader, as one that writes.

    The statement is kept in the host's journal, so it is no place for secrets. It may read every table
    and change none; with --write it may change rows, and asks first where the environment wants that.

    Examples:
        fab db.psql --env production --database jukebox --command "select count(*) from plays"
        fab db.psql --env production --member db1 --command "select * from pg_stat_activity"
        fab db.psql --env production --write --command "delete from plays where id = 7" --dry-run
        fab db.psql --env production --database jukebox --write --command "delete from plays where id = 7"
    """
    from backline import console
    from backline.console import paint
    from backline.operations.database import look
    from backline.transport.port import HostError

    if not command.strip():
        raise BacklineError("which statement? --command 'select …'", state="nothing was asked")
    fleet = environment(env)
    fields = {
        "action": "query",
        "sql": command,
        "database": database,
        "write": write,
        "seconds": seconds,
        "format": "csv" if json else "aligned",
    }
    with reach(fleet) as hosts:
        view = look.collect(hosts, fleet.groups.get("database", ()))
        name = member or _asked(view, write)
        host = view.host(name)
        if dry_run:
            _show_statement(name, host, fields, json)
            return
        if write:
            confirm(fleet, 1, yes, json)
        try:
            answer = hosts.call(
                host, "database", {**_who(message), **fields}, deadline=seconds + 20.0
            )
        except HostError as error:
            kept = "nothing of a statement that fails is kept"
            raise error.for_people(error.state(kept) if write else kept) from None
    if json:
        found = {"role": answer["role"], "member": name, "output": answer["output"]}
        console.line({"schema_version": 1, "event": "answer", **found, "cut": answer["cut"]})
    else:
        print(paint.shown(answer["output"], sys.stdout), end="", flush=True)
    if answer["cut"]:
        raise BacklineError("the answer was longer: only its beginning is shown", hint="add LIMIT")


class _Teller:
    """Says each step: a line for people on stderr, or NDJSON on stdout."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def __call__(self, step: str, text: str, data: Mapping[str, Any]) -> None:
        from backline import console

        if self.as_json:
            console.line({"schema_version": 1, "event": step, "text": text, **data})
        else:
            style = {"warning": "yellow", "ended": "green"}.get(step)
            console.console().print(f"  {step:9} {text}", style=style, markup=False)


def _show(plan: Plan, as_json: bool) -> None:
    from backline.console.words import listed

    text = f"{plan.scope}: {plan.leader} hands over to {plan.candidate}; {wording.hosts(len(plan.hosts))}"
    if plan.proxies:
        text += f", with the proxies of {listed(plan.proxies)}"
    data = {"from": plan.leader, "to": plan.candidate, "hosts": plan.hosts, "linger": plan.linger}
    _Teller(as_json)("plan", text, data)


def _show_statement(member: str, host: str, fields: Mapping[str, Any], as_json: bool) -> None:
    """What `fab db.psql` would ask whom."""
    from backline import console

    role = "backline_writer" if fields["write"] else "backline_reader"
    if as_json:
        what = {"role": role, "database": fields["database"], "command": fields["sql"]}
        where = {"member": member, "host": host}
        console.line({"schema_version": 1, "event": "plan", **where, **what})
        return
    out = console.console()
    out.print(f"  {member} ({host}), database {fields['database']}, as {role}:", markup=False)
    out.print(f"  {fields['sql']}", markup=False, soft_wrap=True)


def _proxies(fleet: Environment, skip: str) -> list[str]:
    from backline import selection

    left_out = selection.select(fleet, skip) if skip else []
    found = [host for group in APP_GROUPS for host in fleet.groups.get(group, ())]
    return [host for host in dict.fromkeys(found) if host not in left_out]


def _asked(view: Any, write: bool) -> str:
    """Who is asked: the leader for a write, else a standby whose host answers."""
    standbys = [m.name for m in view.standbys if m.host is not None]
    found = view.leader if write or not standbys else standbys[-1]
    if found is None:
        raise BacklineError(
            "nobody leads: no write is taken", state="nothing was changed", hint="fab db.status"
        )
    return str(found)


def _who(message: str) -> dict[str, Any]:
    return new_run("database", message).who


collection = Collection("db")
collection.add_task(status, default=True)
for found in (
    *(switchover, failover, psql, backups.backup, backups.drill, backups.restore),
    *(database_work.slow, database_work.locks, database_work.vacuum, database_work.kill),
):
    collection.add_task(found)
