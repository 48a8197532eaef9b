"""Out of service and back: hosts that the balancers leave out, pools that finish their jobs and stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks import operator
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
    from backline.operations.drain.judge import Plan
    from backline.operations.drain.look import View
    from backline.operations.drain.work import Drain
    from backline.transport.fleet import SshFleet

LONGEST = 3600
HELP = {
    "on": "which hosts, the first word: a host, or an Ansible pattern such as 'streaming:&zone_a'",
    "env": ENV_HELP,
    "app": "which app, where the hosts run several",
    "skip": "balancers that are down anyway, an Ansible pattern: nobody waits for them",
    "timeout": "seconds until it gives up waiting; what is drained by then stays drained",
    "json": JSON_HELP,
    "dry_run": DRY_HELP,
    "yes": YES_HELP,
    "message": MESSAGE_HELP,
}


@operation(
    positional=["on"],
    help={**HELP, "outage": "go on though nobody else is up to serve listeners"},
)
def drain(
    c: Context,
    on: str,
    env: str = "",
    app: str = "",
    skip: str = "",
    outage: bool = False,
    timeout: int = 600,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Take hosts out of service, also over a reboot; waits until balancers and pools are done with them.

    Requests and downloads under way go on, and pools finish their jobs. It ends when every balancer sends
    the hosts nothing new. Refused (6) for the last host that serves; --outage takes it all the same.

    Examples:
        fab drain stream1 --env lab --dry-run
        fab drain stream1 --env lab --message 'new disk'
        fab drain 'worker:&zone_a' --env lab
    """
    from backline.operations.drain import judge

    check(timeout)
    fleet = environment(env)
    with reach(fleet) as hosts:
        view, chosen = _seen(fleet, hosts, on, app, skip)
        plan = judge.drain(view, chosen, fleet.groups.get("streaming", ()), outage)
        _show(plan, "drain", json)
        if dry_run:
            return
        ask(fleet, view, plan, yes, json)
        with at_work(hosts, plan, message, timeout, json) as work:
            work.out(fleet.groups.get("streaming", ()), outage)
    end("drained", plan.hosts, json)


@operation(positional=["on"], help=HELP)
def undrain(
    c: Context,
    on: str,
    env: str = "",
    app: str = "",
    skip: str = "",
    timeout: int = 600,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Bring drained hosts back: what is live there is started and healthy before anybody is sent to it.

    Ends when every balancer sends requests to them again. Refused (6) for a host in quarantine:
    `fab deploy.catchup` brings it to the release of the others first.

    Examples:
        fab undrain stream1 --env lab
        fab undrain stream1 --env lab --skip edge2
    """
    from backline.operations.drain import judge

    check(timeout)
    fleet = environment(env)
    with reach(fleet) as hosts:
        view, chosen = _seen(fleet, hosts, on, app, skip, everybody=True)
        plan = judge.undrain(view, chosen, fleet.groups.get("streaming", ()))
        _show(plan, "undrain", json)
        if dry_run:
            return
        ask(fleet, view, plan, yes, json)
        with at_work(hosts, plan, message, timeout, json) as work:
            work.back()
    end("undrained", plan.hosts, json)


def ask(fleet: Environment, view: View, plan: Plan, yes: int, as_json: bool) -> None:
    """The question. Raises BacklineError (5) first when a run is at work: it may end while the question
    waits, and the plan is of what was there before."""
    from backline.rollout.lease import let_nobody_work

    let_nobody_work({host: view.statuses[host] for host in plan.fences})
    confirm(fleet, len(plan.hosts), yes, as_json)


@contextmanager
def at_work(
    hosts: SshFleet, plan: Plan, message: str, timeout: int, as_json: bool
) -> Iterator[Drain]:
    """A drain that is narrated. Ctrl-C is told with what it leaves; leases have been given back by then."""
    from backline import console
    from backline.operations.drain.work import Drain

    run = new_run(plan.app, message)
    with console.Narrator(run.id, as_json) as narrator:
        work = Drain(hosts, plan, run, operator.clock(), narrator.report, float(timeout))
        with _interrupted(work):
            yield work


@contextmanager
def _interrupted(work: Drain) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise BacklineError(
            "interrupted",
            hosts=work.plan.hosts,
            state=work.so_far,
            hint="the same command again goes on; fab status shows the hosts",
            exit_code=Exit.INTERRUPTED,
        ) from None


def _seen(
    fleet: Environment, hosts: SshFleet, on: str, app: str, skip: str, everybody: bool = False
) -> tuple[View, list[str]]:
    """What is there, and which hosts were meant. `everybody` is asked for who is in quarantine."""
    from backline import selection
    from backline.operations.drain import look
    from backline.tasks.deploy import the_app

    chosen = selection.select(fleet, on)
    left_out = selection.select(fleet, skip) if skip else []
    serving = fleet.groups.get("streaming", ())
    balancers = fleet.groups.get(str(fleet.rollout.get("balancers") or "edge"), ())
    concerned = set(chosen) & set(serving)
    view = look.collect(
        hosts,
        app or the_app(hosts, list(chosen)),
        chosen,
        fleet.hosts if everybody else serving if concerned else (),
        [name for name in balancers if concerned and name not in left_out],
    )
    return view, chosen


def check(timeout: int) -> None:
    """Raises BacklineError for a time that nobody would wait."""
    if not 1 <= timeout <= LONGEST:
        raise BacklineError(f"--timeout is a number of seconds from 1 to {LONGEST}")


def _show(plan: Plan, action: str, as_json: bool) -> None:
    from backline import console
    from backline.console.words import listed

    if as_json:
        console.line(plan.as_json(action))
        return
    out = console.console()
    out.print(f"{action} {listed(plan.hosts)} ({plan.app})", style="bold", markup=False)
    if plan.balancers:
        word = "send nothing new to them" if action == "drain" else "send requests to them"
        out.print(f"  {listed(plan.balancers)} {word}", markup=False)
    for process in plan.processes:
        text = _fate(action, process.kind, process.runs)
        if text:
            out.print(f"  {process.host} {process.name} {text}", markup=False)
    out.print(f"  {wording.hosts(len(plan.hosts))}", markup=False)


def _fate(action: str, kind: str, runs: bool) -> str:
    """What becomes of a process, in a few words; nothing for one that stays as it is."""
    if action == "undrain":
        return "must be healthy" if runs else "is started, and must be healthy"
    if kind == "http":
        return ""
    if not runs:
        return "does not run"
    if kind == "singleton":
        return "stops: nothing is scheduled until the host is back"
    return "finishes its jobs and stops"


def end(what: str, hosts: Iterable[str], as_json: bool) -> None:
    """The last line: what has been done, and to which hosts."""
    from backline import console
    from backline.console.words import listed

    if as_json:
        console.line({"schema_version": 1, "event": "done", "what": what, "hosts": list(hosts)})
    else:
        console.console().print(f"{what}: {listed(hosts)}", style="green", markup=False)
