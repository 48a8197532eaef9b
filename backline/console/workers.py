"""Pools, their jobs and dead letters as tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backline.console.cells import ago, columns, plain
from backline.console.output import console

if TYPE_CHECKING:
    from backline.operations.broker import Load
    from backline.operations.workers.letters import Letters
    from backline.operations.workers.pools import Pool, View


def show_workers(view: View, queues: Iterable[Load], unknown: str = "") -> None:
    """Pools, what runs once, queues; what is wrong comes last.

    Celery's own queues, dozens, are seen when something lies in them.
    """
    out = console(sys.stdout)
    found = columns("HOST", "POOL", "RELEASE", "JOBS AT ONCE", "RUN", "WAIT", "QUEUES")
    for pool in view.pools:
        found.add_row(*map(plain, _pool(pool)), style="red" if pool.trouble else None)
    for once in view.singletons:
        cells = (once.host, once.process, once.release, once.active, "", "", "")
        found.add_row(*map(plain, cells), style="red" if once.trouble else None)
    for host in view.silent:
        found.add_row(plain(host), "no answer", *[""] * 5, style="red")
    out.print(found)
    for pool in view.pools:
        for job in pool.running:
            since = f", for {ago(float(job['since']))}" if job.get("since") else ""
            out.print(f"{pool.host} {job['task']} {job['id']}{since}", markup=False)
    found = columns("QUEUE", "MESSAGES", "IN WORK", "CONSUMERS")
    for queue in queues:
        if queue.of_celery and not queue.messages:
            continue
        style = "yellow" if queue.dead and queue.messages else None
        numbers = (queue.messages, queue.unacknowledged, queue.consumers)
        found.add_row(plain(queue.name), *map(str, numbers), style=style)
    if found.row_count:
        out.print(found)
    if unknown:
        out.print(f"queues: {unknown}", style="yellow", markup=False)
    for trouble in view.troubles:
        out.print(f"! {trouble}", style="red", markup=False)


def show_letters(letters: Letters, queue: str) -> None:
    """Each letter, then how many of a kind there are."""
    out = console(sys.stdout)
    found = columns("JOB", "TASK", "FROM", "WHY", "AGO", "DIED", "AGAIN")
    for letter in letters.letters:
        when = ago(letter["at"]) if letter["at"] else "?"
        cells = (letter["id"], letter["task"], letter["queue"], letter["why"], when)
        numbers = (str(letter["count"]), str(letter["requeued"]))
        found.add_row(*(plain(str(cell or "?")) for cell in cells), *numbers)
    if letters.letters:
        out.print(found)
    more = f" (of {letters.there})" if letters.there > len(letters.letters) else ""
    out.print(f"{queue}: {len(letters.letters)} dead letters{more}", markup=False)


def _pool(pool: Pool) -> tuple[str, ...]:
    children = str(pool.children)
    if pool.children != pool.inventory:
        children += f" (inventory: {pool.inventory})"
    if pool.active != "active":
        children = pool.active
    elif pool.processes is None:
        return pool.host, pool.process, pool.release, children, "?", "?", pool.queues
    run, wait = str(len(pool.running)), str(len(pool.reserved))
    return pool.host, pool.process, pool.release, children, run, wait, pool.queues
