"""Pools of workers: what they do, how many jobs at once, and which of them rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError, Exit
from backline.tasks import jobs, operator
from backline.tasks.draining import ask, at_work, check, end
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    MESSAGE_HELP,
    YES_HELP,
    confirm,
    environment,
    group,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.drain.judge import Plan as DrainPlan
    from backline.operations.workers.pools import View
    from backline.operations.workers.scale import Plan as ScalePlan
    from backline.rollout.events import Report
    from backline.rollout.lease import Run
    from backline.transport.fleet import SshFleet
    from backline.transport.port import Answer

GROUP = "worker"
ON_HELP = "which hosts, an Ansible pattern (default: all worker hosts)"
APP_HELP = "which app, where the hosts run several"


@operation(help={"on": ON_HELP, "env": ENV_HELP, "app": APP_HELP, "json": JSON_HELP})
def status(c: Context, on: str = "", env: str = "", app: str = "", json: bool = False) -> None:
    """Show pools, the jobs they do and hold, queues, the scheduler. Exit 1 if anything is wrong.

    Examples:
        fab workers.status --env lab
        fab workers --env lab --on worker1
    """
    from backline import console
    from backline.operations import broker
    from backline.operations.workers import pools
    from backline.tasks.deploy import the_app

    fleet = environment(env)
    names, brokers = hosts_of(fleet, on), fleet.groups.get("broker", ())
    with reach(fleet) as hosts:
        view = pools.collect(hosts, app or the_app(hosts, names), names)
        queues, unknown = broker.loads(hosts, brokers)
    if json:
        lines = [row.as_json() for row in view.pools] + [row.as_json() for row in view.singletons]
        for line in [*lines, *(queue.as_json() for queue in queues)]:
            console.line(line)
        for host, why in view.silent.items():
            console.line({"schema_version": 1, "event": "silent", "host": host, "why": why})
        if unknown:
            what = {"what": "queues", "why": unknown}
            console.line({"schema_version": 1, "event": "unknown", **what})
    else:
        console.show_workers(view, queues, unknown)
    troubles = [*view.troubles, *([f"queues: {unknown}"] if unknown else [])]
    if troubles:
        raise BacklineError(
            "; ".join(troubles),
            hosts=view.silent,
            hint="fab workers.drain HOST --undo starts pools that rest; docs/runbooks/queue-growing.md",
        )


@operation(
    positional=["pool"],
    help={
        "pool": "which pool, the first word: its process, as fab workers.status shows it",
        "children": "how many jobs at once, on each host",
        "reset": "what the inventory says, from now on",
        "on": ON_HELP,
        "env": ENV_HELP,
        "app": APP_HELP,
        "timeout": "seconds that jobs get to end on each host before the pool starts anew",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    },
)
def scale(
    c: Context,
    pool: str,
    children: int = 0,
    reset: bool = False,
    on: str = "",
    env: str = "",
    app: str = "",
    timeout: int = 600,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Set how many jobs a pool does at once, host by host; kept until --reset, over deploys and playbooks.

    Each host's pool finishes its jobs, starts anew and has to be healthy before the next one's turn.

    Examples:
        fab workers.scale worker-plays --children 6 --env lab --on worker2
        fab workers.scale worker-plays --reset --env lab
    """
    from backline.operations.workers import scale as scaling
    from backline.rollout.lease import let_nobody_work
    from backline.tasks.deploy import the_app

    if reset == bool(children) or children < 0:
        raise BacklineError("how many? --children N, or --reset", state="nothing was changed")
    check(timeout)
    fleet = environment(env)
    names = hosts_of(fleet, on)
    with reach(fleet) as hosts:
        name = app or the_app(hosts, names)
        view, leases = _seen(hosts, name, names)
        plan = scaling.plan(view, name, pool, _having(view, pool, names, on), children or None)
        resting = [found.host for found in view.pools if found.process == pool and found.rests]
        _show_scale(plan, resting, json)
        if dry_run or not plan.pools:
            return
        chosen = [found.host for found in plan.pools]
        let_nobody_work({host: leases[host] for host in chosen})
        fences = {host: int(leases[host]["fence"]) for host in chosen}
        confirm(fleet, len(chosen), yes, json)
        run = new_run(name, message)
        with _narrated(run, chosen, json) as report:
            scaling.carry_out(hosts, plan, fences, run, operator.clock(), report, float(timeout))
    end("scaled", chosen, json)


@operation(
    positional=["on"],
    help={
        "on": "which hosts, the first word: a host, or an Ansible pattern",
        "pool": "one pool alone (default: all pools of the host, and the scheduler)",
        "undo": "start them again, and see that they are healthy",
        "env": ENV_HELP,
        "app": APP_HELP,
        "timeout": "seconds that jobs get to end",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    },
)
def drain(
    c: Context,
    on: str,
    pool: str = "",
    undo: bool = False,
    env: str = "",
    app: str = "",
    timeout: int = 600,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Let pools finish their jobs and stop, until --undo, a deploy or a reboot; the host stays in service.

    --undo is refused (6) for a host in quarantine, as fab undrain is.

    Examples:
        fab workers.drain worker1 --env lab --pool worker-plays
        fab workers.drain worker1 --env lab --undo
    """
    from backline import selection
    from backline.operations.drain import judge, look
    from backline.tasks.deploy import the_app

    check(timeout)
    fleet = environment(env)
    chosen = selection.select(fleet, on)
    with reach(fleet) as hosts:
        others = fleet.hosts if undo else ()  # they know who is in quarantine
        view = look.collect(hosts, app or the_app(hosts, chosen), chosen, others, ())
        plan = judge.pools(view, chosen, pool)
        if undo:
            judge.refuse_quarantined(view, chosen)
        _show_drain(plan, undo, json)
        if dry_run:
            return
        ask(fleet, view, plan, yes, json)
        with at_work(hosts, plan, message, timeout, json) as work:
            work.back() if undo else work.out((), outage=True)
    end("started" if undo else "stopped", plan.hosts, json)


def hosts_of(fleet: Environment, on: str) -> list[str]:
    """The worker hosts that `on` means. Raises BacklineError when there are none."""
    from backline import selection

    group(fleet, GROUP)
    return selection.select(fleet, on or GROUP)


def _having(view: View, pool: str, names: list[str], on: str) -> list[str]:
    """Who is meant: the named hosts; without --on those that have the pool, or do not answer."""
    if on:
        return names
    having = {found.host for found in view.pools if found.process == pool}
    return [name for name in names if name in having or name in view.silent] or names


def _seen(hosts: SshFleet, app: str, names: list[str]) -> tuple[View, dict[str, Answer]]:
    """The pools, and each host's lease and fence from just before: of a run in between, the fence tells."""
    from dataclasses import replace

    from backline.operations.workers import pools

    show = {"app": app, "action": "show"}
    leases = hosts.each(
        names, lambda host: hosts.call(host, "lease", show), deadline=pools.DEADLINE
    )
    view = pools.collect(hosts, app, names)
    silent = {host: found.error.message for host, found in leases.items() if found.error}
    return (
        replace(view, silent={**silent, **view.silent}),
        {host: found.value for host, found in leases.items() if found.value},
    )


@contextmanager
def _narrated(run: Run, chosen: list[str], as_json: bool) -> Iterator[Report]:
    """A scaling that is narrated; Ctrl-C and a pool that does not come back are told with what they leave."""
    from backline import console
    from backline.transport.port import HostError

    with console.Narrator(run.id, as_json) as narrator:
        try:
            yield narrator.report
        except KeyboardInterrupt:
            raise BacklineError(
                "interrupted",
                hosts=chosen,
                state="a pool that was told to stop does so, and may have to be started",
                hint="fab workers.status; the same command again, or fab workers.drain HOST --undo",
                exit_code=Exit.INTERRUPTED,
            ) from None
        except HostError as error:
            raise error.for_people(
                "hosts after it were not touched; its own number is kept",
                "fab workers.status; the same command again goes on",
            ) from None


def _show_scale(plan: ScalePlan, resting: list[str], as_json: bool) -> None:
    from backline import console

    if as_json:
        console.line(plan.as_json())
        return
    out = console.console()
    for pool in plan.pools:
        more = f", {len(pool.running)} of its jobs are finished first" if pool.running else ""
        if pool.active != "active" and not pool.rests:
            more = f"; it is {pool.active}, and started"
        text = f"{pool.host} {pool.process}: {pool.children} → {plan.wanted(pool)} at once{more}"
        out.print(f"  {text}", markup=False)
    for host in resting:
        undo = f"fab workers.drain {host} --pool {plan.process} --undo"
        out.print(f"  {host} {plan.process} rests: {undo}", markup=False)
    if not plan.pools:
        out.print(f"{plan.process} has that many already", markup=False)


def _show_drain(plan: DrainPlan, undo: bool, as_json: bool) -> None:
    from backline import console

    if as_json:
        console.line(plan.as_json("start" if undo else "stop"))
        return
    for process in plan.processes:
        text = "is started, and must be healthy" if undo else "finishes its jobs and stops"
        if process.kind == "singleton" and not undo:
            text = "stops: nothing is scheduled meanwhile"
        console.console().print(f"  {process.host} {process.name} {text}", markup=False)


collection = Collection("workers")
collection.add_task(status, default=True)
for found in (scale, drain, jobs.dead, jobs.requeue, jobs.revoke):
    collection.add_task(found)
