"""What operators do with a run that is under way, or that was left in the middle."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline.errors import BacklineError, Exit
from backline.tasks import operator, planning
from backline.tasks.command import say
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    YES_HELP,
    environment,
    new_run,
    operation,
    reach,
)
from backline.tasks.rolling import Options, carry_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backline.inventory import Environment
    from backline.rollout.takeover import Found
    from backline.transport.fleet import SshFleet
    from backline.transport.port import HostError

RUN_HELP = "which run (default: the only unfinished one)"
APP_HELP = "which app, where the hosts run several"
POLL_SECONDS = 2.0
TAKE_HELP = {
    "env": ENV_HELP,
    "run": RUN_HELP,
    "app": APP_HELP,
    "json": JSON_HELP,
    "yes": YES_HELP,
    "message": "why: kept in the journal of every host",
}
WANT_HELP = {"env": ENV_HELP, "run": RUN_HELP, "app": APP_HELP, "json": JSON_HELP}


@operation(help=TAKE_HELP)
def resume(
    c: Context,
    env: str = "",
    run: str = "",
    app: str = "",
    json: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Go on with a run whose controller is gone, from any machine: its hosts know what they did."""
    fleet = environment(env)
    with reach(fleet) as hosts:
        found, missing, name = _find(fleet, hosts, run, app)
        _wait_for_lease(hosts, found, name)
        found, missing, name = _find(fleet, hosts, found.run, name)
        _take_over(fleet, hosts, found, missing, Options(json, yes=yes), message)


@operation(help=TAKE_HELP)
def abort(
    c: Context,
    env: str = "",
    run: str = "",
    app: str = "",
    json: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Take an unfinished run back: every host returns to what it had. Works on a live run, too."""
    from backline.rollout import takeover

    fleet = environment(env)
    with reach(fleet) as hosts:
        found, missing, name = _find(fleet, hosts, run, app)
        if _want(hosts, found, name, "abort") and not _wait_for_lease(hosts, found, name, True):
            say(f"run {found.run} was told, and goes back by itself: fab status")
            return
        statuses, _ = statuses_of(fleet, hosts, name)
        takeover.refuse_back(found, statuses)
        found, missing, name = _find(fleet, hosts, found.run, name)
        _take_over(fleet, hosts, found, missing, Options(json, yes=yes, back=True), message)


@operation(help=WANT_HELP)
def pause(c: Context, env: str = "", run: str = "", app: str = "", json: bool = False) -> None:
    """Let a live run stop after its batch, and wait; `fab deploy.promote` lets it go on."""
    _tell(env, run, app, "pause")


@operation(help=WANT_HELP)
def promote(c: Context, env: str = "", run: str = "", app: str = "", json: bool = False) -> None:
    """Let a live run go on: out of a pause, and without any further soaking."""
    _tell(env, run, app, "promote")


@operation(
    help={
        "env": ENV_HELP,
        "app": APP_HELP,
        "json": JSON_HELP,
        "dry_run": "show the plan and end; nothing is changed",
        "yes": YES_HELP,
        "message": "why: kept in the journal of every host",
    }
)
def catchup(
    c: Context,
    env: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Bring hosts out of quarantine: they get what the others run, and only then serve again."""
    from dataclasses import replace

    from backline.rollout import plan as plans
    from backline.rollout import quarantine

    fleet = environment(env)
    with reach(fleet) as hosts:
        name = app or the_app_of(fleet, hosts)
        statuses, missing = statuses_of(fleet, hosts, name)
        known = quarantine.known(statuses.values())
        back = [host for host in known if host in statuses]
        _refuse_absent(known, missing)
        if not back:
            raise BacklineError("no host is in quarantine", state="nothing was changed")
        others = {host: status for host, status in statuses.items() if host not in known}
        release = plans.the_live_release(others)
        wish = planning.Wish(release, rules={"batches": "100%", "floor": "0", "budget": "0"})
        intended, options = planning.deploy(fleet, hosts, wish, True, dry_run)
        intended = replace(intended, freed=tuple(back), left_out=())
        options = replace(options, as_json=json, dry_run=dry_run, yes=yes, replace=True)
        carry_out(fleet, hosts, intended, new_run(name, message), options)


def _refuse_absent(known: Mapping[str, Any], missing: Mapping[str, HostError]) -> None:
    absent = [host for host in known if host in missing]
    if absent:
        raise BacklineError(
            "\n       ".join(f"{host}: {missing[host].message}" for host in absent),
            hosts=absent,
            state="nothing was changed",
            hint="bring them up first",
        )


def _take_over(
    fleet: Environment,
    hosts: SshFleet,
    found: Found,
    missing: Mapping[str, HostError],
    options: Options,
    message: str,
) -> None:
    from dataclasses import replace

    from backline.release import store
    from backline.rollout import takeover
    from backline.rollout.cargo import Cargo
    from backline.rollout.lease import Run

    back = options.back or found.retreating
    if found.retreating and not options.back:
        say(f"run {found.run} was on its way back: that is what goes on")
    plan = found.plan
    cargo: Cargo | None = None
    paths: tuple[str, ...] = ("/",)
    if plan.action == "deploy" and not back:
        from backline import places

        if plan.release in store.ids(places.dist()):
            stored = store.load(places.dist(), plan.release)
            cargo = Cargo(plan, (stored.document, stored.signature), stored.archive, {})
            paths = planning.probe_paths(stored)
    whose = new_run(plan.app, message)
    run = Run(found.run, plan.app, whose.actor, message)
    options = replace(
        options,
        fences=found.fences,
        cargo=cargo,
        probe_paths=paths,
        resumed=True,
        back=back,
        missing=takeover.missing(found, missing),
        given_up=found.left_out,
    )
    carry_out(fleet, hosts, plan, run, options)


def _find(
    fleet: Environment, hosts: SshFleet, run: str, app: str
) -> tuple[Found, dict[str, HostError], str]:
    from backline.rollout import takeover

    name = app or the_app_of(fleet, hosts)
    statuses, missing = statuses_of(fleet, hosts, name)
    return takeover.choose(statuses, run), missing, name


def the_app_of(fleet: Environment, hosts: SshFleet) -> str:
    """The one app of an environment; BacklineError when there are several, or none."""
    from backline.tasks.deploy import the_app

    return the_app(hosts, list(fleet.hosts))


def statuses_of(
    fleet: Environment, hosts: SshFleet, app: str
) -> tuple[dict[str, Mapping[str, Any]], dict[str, HostError]]:
    """What the hosts that have the app say, and the errors of those that do not answer."""
    from backline.rollout import preflight
    from backline.transport.port import HostError

    found = preflight.look(hosts, fleet.hosts, app, operator.clock())
    statuses = {
        host: look.status for host, look in found.items() if not isinstance(look, HostError)
    }
    missing = {
        host: look
        for host, look in found.items()
        if isinstance(look, HostError) and look.code not in ("unknown_app", "no_hostctl")
    }
    return statuses, missing


def _tell(env: str, run: str, app: str, want: str) -> None:
    fleet = environment(env)
    with reach(fleet) as hosts:
        found, _, name = _find(fleet, hosts, run, app)
        if not _want(hosts, found, name, want):
            raise BacklineError(
                f"nobody works on run {found.run} any more",
                state="nothing was changed",
                hint="fab deploy.resume goes on with it, fab deploy.abort goes back",
            )
        say(f"run {found.run} was told: {want}; it hears within 5 s")


def _want(hosts: SshFleet, found: Found, app: str, want: str) -> bool:
    """Says on every host what we want of a run; False when nobody holds its lease there."""
    who = new_run(app, "")
    fields = {"app": app, "run": found.run, "want": want, "actor": who.actor}

    def tell(host: str) -> bool:
        shown = hosts.call(host, "lease", {"app": app, "action": "show"})
        hosts.call(host, "want", fields)
        lease = shown.get("lease")
        return bool(lease and lease.get("run") == found.run)

    outcomes = hosts.each(found.plan.hosts, tell, deadline=25.0)
    return any(outcome.value for outcome in outcomes.values())


def _wait_for_lease(hosts: SshFleet, found: Found, app: str, may_end: bool = False) -> bool:
    """Waits until the run's lease has run out, a minute at most.

    True when the run can be taken over. A lease that is being renewed is somebody at work: then
    BacklineError (5), or, with `may_end`, False as soon as that run has ended by itself.
    """
    first: float | None = None
    began = time.monotonic()
    while True:
        leases = _leases(hosts, found, app)
        alive = [lease for lease in leases.values() if lease]
        if not alive:
            return True
        if any(lease.get("holder") == new_run(app, "").actor for lease in alive) and not may_end:
            return True  # ours, from this machine: the journal's lock tells whether it still runs
        left = max(float(lease["expires_in"]) for lease in alive)
        ends = time.monotonic() + left
        if first is None:
            first = ends
            say(f"{alive[0]['holder']} holds the lease of run {found.run}; it ends in {left:.0f} s")
        elif ends > first + 3.0 and not may_end:
            raise BacklineError(
                f"{alive[0]['holder']} is at work on run {found.run}",
                hosts=leases,
                state="nothing was changed",
                hint="fab deploy.pause or fab deploy.abort tells that run",
                exit_code=Exit.LEASE_HELD,
            )
        if may_end and _ended(hosts, found, app):
            return False
        if time.monotonic() - began > 600:
            raise BacklineError(f"run {found.run} has not ended within 10 minutes", hosts=leases)
        time.sleep(POLL_SECONDS)


def _leases(hosts: SshFleet, found: Found, app: str) -> dict[str, Any]:
    fields = {"app": app, "action": "show"}
    outcomes = hosts.each(
        found.plan.hosts, lambda host: hosts.call(host, "lease", fields), deadline=25.0
    )
    return {
        host: (
            o.value.get("lease")
            if o.value["lease"] and o.value["lease"]["run"] == found.run
            else None
        )
        for host, o in outcomes.items()
        if o.value
    }


def _ended(hosts: SshFleet, found: Found, app: str) -> bool:
    outcomes = hosts.each(
        found.plan.hosts, lambda host: hosts.call(host, "status", {"app": app}), deadline=25.0
    )
    runs = [o.value["run"] for o in outcomes.values() if o.value and o.value.get("run")]
    return bool(runs) and all(run["ended"] for run in runs if run["run"] == found.run)


TASKS = (resume, abort, pause, promote, catchup)
