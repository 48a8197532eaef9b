"""The database cluster, its backups and the brokers as tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from backline.console.cells import ago, columns, plain
from backline.console.output import console

if TYPE_CHECKING:
    from backline.operations.backups import Job
    from backline.operations.broker import View as Brokers
    from backline.operations.database.look import Member, View


def show_database(view: View, jobs: Sequence[Job], unknown: str = "") -> None:
    """Members, etcd's majority, backups; what is wrong comes last, where it is seen."""
    from backline.operations.database.look import GOOD

    out = console(sys.stdout)
    table = columns("MEMBER", "ROLE", "STATE", "TL", "LAG", "ETCD", "PGBOUNCER")
    for member in view.members:
        ill = member.error or member.state not in GOOD
        table.add_row(*map(plain, _cells(member)), style="red" if ill else None)
    out.print(table)
    votes = f"etcd {view.voters} of {len(view.members)} votes"
    mode = "synchronous" if view.synchronous else "asynchronous"
    out.print(f"{view.scope}: {view.leader or 'NOBODY'} leads, {mode}; {votes}", markup=False)
    if jobs:
        table = columns("BACKUP", "LAST RUN", "AGO", "NOTES")
        for job in jobs:
            table.add_row(*map(plain, _job(job)), style="red" if job.ran and not job.good else None)
        out.print(table)
    elif unknown:
        out.print(f"backups: {unknown}", style="yellow", markup=False)
    _troubles(view.troubles)


def show_broker(view: Brokers) -> None:
    """Brokers, then queues; Celery's own, dozens, are seen when something is the matter with them."""
    out = console(sys.stdout)
    table = columns("BROKER", "SEES", "ALARMS", "MAY STOP")
    for broker in view.brokers:
        sees = f"{len(broker.running)} of {len(broker.members)}"
        cells = (broker.host, sees, ", ".join(broker.alarms) or "none", _critical(broker.critical))
        if broker.error:
            table.add_row(broker.host, "no answer", "", "", style="red")
        else:
            table.add_row(*map(plain, cells))
    out.print(table)
    table = columns("QUEUE", "KIND", "MESSAGES", "IN WORK", "CONSUMERS", "COPIES UP")
    most = max((len(broker.members) for broker in view.brokers), default=0)
    for queue in view.queues:
        whole = queue.kind != "quorum" or queue.online == most
        if queue.of_celery and not queue.messages and whole:
            continue
        load = (queue.messages, queue.unacknowledged, queue.consumers)
        numbers = (*(load if queue.leader else ("?",) * 3), queue.online)
        style = "yellow" if queue.dead and queue.messages else None
        table.add_row(plain(queue.full_name), queue.kind, *map(str, numbers), style=style)
    out.print(table)
    _troubles(view.troubles)


def _cells(member: Member) -> tuple[str, ...]:
    bouncer = member.pgbouncer
    pooled = "" if not bouncer or bouncer.get("trouble") else f"{bouncer['active']} clients"
    if pooled and bouncer["waiting"]:
        pooled += f", {bouncer['waiting']} wait"
    lag = "" if member.role in ("leader", "missing") else _bytes(member.lag)
    etcd = member.etcd if member.etcd == "healthy" else "ill"
    timeline = str(member.timeline or "")
    role = member.role.replace("_", " ")
    return member.name, role, member.state, timeline, lag, etcd, pooled or "ill"


def _job(job: Job) -> tuple[str, str, str, str]:
    if not job.ran:
        return job.name, "running" if job.running else "never", "", ""
    word = "running" if job.running else "good" if job.good else "FAILED"
    notes = [job.why] if not job.good else []
    if not job.good:
        notes.append(f"last good {ago(job.succeeded)} ago" if job.succeeded else "never good")
    return job.name, word, ago(job.ended), "; ".join(notes)


def _critical(why: str | None) -> str:
    return "yes" if why is None else f"no: {why}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "?"
    return str(count) if count < 10_000 else f"{count / 1e6:.1f} MB"


def _troubles(troubles: Iterable[str]) -> None:
    for trouble in troubles:
        console(sys.stdout).print(f"! {trouble}", style="red", markup=False)
