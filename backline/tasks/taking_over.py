"""What operators do with a run that is under way, or that was left in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks import operator, other_hands, planning
from backline.tasks.command import say
from backline.tasks.operator import (
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
from backline.tasks.rolling import Options, carry_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backline.inventory import Environment
    from backline.rollout.takeover import Found
    from backline.transport.fleet import SshFleet
    from backline.transport.port import HostError

RUN_HELP = "which run, its ID or the beginning of it (default: the only unfinished one)"
APP_HELP = "which app, where the hosts run several"
TAKE_HELP = {
    "env": ENV_HELP,
    "run": RUN_HELP,
    "app": APP_HELP,
    "json": JSON_HELP,
    "dry_run": "show what would become of each host and end; nothing is changed",
    "yes": YES_HELP,
    "message": MESSAGE_HELP,
}
WANT_HELP = {
    "env": ENV_HELP,
    "run": RUN_HELP,
    "app": APP_HELP,
    "json": JSON_HELP,
    "dry_run": "say which run would be told, and whose it is, and end; nothing is changed",
}


@operation(help=TAKE_HELP)
def resume(
    c: Context,
    env: str = "",
    run: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Go on with a run whose controller is gone, from any machine: its hosts know what they did.

    It waits until the dead controller's lease has run out, a minute at most (5 when the holder lives). A run
    that was on its way back goes on back. Exit codes are those of fab deploy.

    Examples:
        fab deploy.resume --env production --dry-run
        fab deploy.resume --env production --message "ann's laptop died"
        fab deploy.resume --env production --run 20261126T0321 --yes 12
    """
    fleet = environment(env)
    with reach(fleet) as hosts:
        found, missing, name = _find(fleet, hosts, run, app)
        if dry_run:
            _rehearse(fleet, hosts, found, "resume", json)
            return
        other_hands.wait(fleet, hosts, found)
        found, missing, name = _find(fleet, hosts, found.run, name)
        _take_over(fleet, hosts, found, missing, Options(json, yes=yes), message)


@operation(help=TAKE_HELP)
def abort(
    c: Context,
    env: str = "",
    run: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Take an unfinished run back: every host returns to what it had. Works on a live run, too.

    A live run hears of it within five seconds and goes back by itself; of a dead one this machine takes
    the place. Exit codes are those of fab deploy; 0 means that all hosts have what they had.

    Examples:
        fab deploy.abort --env production --dry-run
        fab deploy.abort --env production --message "errors on the edge"
    """
    from backline.rollout import takeover

    fleet = environment(env)
    with reach(fleet) as hosts:
        found, missing, name = _find(fleet, hosts, run, app)
        if dry_run:
            _rehearse(fleet, hosts, found, "abort", json)
            return
        confirm(fleet, len(found.plan.hosts), yes, json)
        yes = len(found.plan.hosts)
        told = other_hands.want(hosts, found, "abort")
        if told and not other_hands.wait(fleet, hosts, found, may_end=True):
            takeover.require_returned(found, statuses_of(fleet, hosts, name)[0])
            text = f"run {found.run} was told, and all hosts have what they had"
            _say_told(found, "abort", text, json)
            return
        statuses, _ = statuses_of(fleet, hosts, name)
        takeover.refuse_back(found, statuses)
        found, missing, name = _find(fleet, hosts, found.run, name)
        _take_over(
            fleet,
            hosts,
            found,
            missing,
            Options(json, yes=yes, back=True, asked_back=True),
            message,
        )


@operation(help=WANT_HELP)
def pause(
    c: Context,
    env: str = "",
    run: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Let a live run stop after its batch, and wait; `fab deploy.promote` lets it go on.

    It hears within five seconds. A run that waits for an hour goes back by itself. The exit code is 1 when
    nobody works on the run.

    Examples:
        fab deploy.pause --env production
        fab deploy.pause --env production --dry-run
    """
    _tell(env, run, app, "pause", json, dry_run)


@operation(help=WANT_HELP)
def promote(
    c: Context,
    env: str = "",
    run: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Let a live run go on: out of a pause, and without any further soaking.

    It hears within five seconds. The exit code is 1 when nobody works on the run.

    Examples:
        fab deploy.promote --env production
        fab deploy.promote --env production --dry-run
    """
    _tell(env, run, app, "promote", json, dry_run)


@operation(
    help={
        "env": ENV_HELP,
        "app": APP_HELP,
        "json": JSON_HELP,
        "dry_run": "show the plan and end; nothing is changed",
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
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
    """Bring hosts out of quarantine: they get what the others run, and only then serve again.

    For hosts that a deploy left out (--quarantine) or behind. All of them must answer (1). Exit codes are
    those of fab deploy.

    Examples:
        fab deploy.catchup --env production --dry-run
        fab deploy.catchup --env production --message "stream2 has a new disk"
    """
    from dataclasses import replace

    from backline.rollout import choices, quarantine

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
        release = choices.the_live_release(others)
        wish = planning.Wish(release, rules={"batches": "100%", "floor": "0", "budget": "0"})
        intended, options = planning.deploy(fleet, hosts, wish, True, dry_run)
        intended = replace(intended, freed=tuple(back), left_out=())
        options = replace(options, as_json=json, dry_run=dry_run, yes=yes, replace=True)
        carry_out(fleet, hosts, intended, new_run(name, message), options)


def _refuse_absent(known: Mapping[str, Any], missing: Mapping[str, HostError]) -> None:
    absent = [host for host in known if host in missing]
    if absent:
        raise BacklineError(
            wording.said(missing[host] for host in absent),
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
            bases = {shipment.base for shipment in plan.shipments if shipment.base}
            patches = planning.patches_of(stored, bases)
            cargo = Cargo(plan, (stored.document, stored.signature), stored.archive, patches)
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
    """What the hosts that have the app say, and the errors of those that do not answer.

    Raises BacklineError when there is nobody but those.
    """
    from backline.operations.status import unanswered
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
    if missing and not statuses:
        raise unanswered(missing, len(found))
    return statuses, missing


def _rehearse(fleet: Environment, hosts: SshFleet, found: Found, how: str, as_json: bool) -> None:
    """Shows what would become of each host of an unfinished run; raises what would be refused."""
    from backline import console
    from backline.rollout import takeover
    from backline.tasks.rolling import as_data, now

    statuses, away = statuses_of(fleet, hosts, found.plan.app)
    back = how == "abort" or found.retreating
    holder = other_hands.who_holds(fleet, hosts, found)
    if how == "abort" and holder is None:
        takeover.refuse_back(found, statuses)
    moves = takeover.moves(found, statuses, back)
    missing = takeover.missing(found, away)
    if as_json:
        event = takeover.as_event(found, how, moves, missing, holder, as_data(found.plan))
        console.line(event.as_json(found.run, now()))
    else:
        console.show_takeover(found, how, moves, missing, holder)


def _tell(env: str, run: str, app: str, want: str, as_json: bool, dry_run: bool) -> None:
    fleet = environment(env)
    with reach(fleet) as hosts:
        found, _, _ = _find(fleet, hosts, run, app)
        leases = other_hands.live_leases(hosts, found)
        alive = bool(leases) if dry_run else other_hands.want(hosts, found, want)
    if not alive:
        raise BacklineError(
            f"nobody works on run {found.run} any more",
            state="nothing was changed",
            hint="fab deploy.resume goes on with it, fab deploy.abort goes back",
        )
    if dry_run:
        who = next(iter(leases.values()))["holder"]
        count = wording.hosts(len(found.plan.hosts))
        text = f"run {found.run} of {who} would be told: {want}, on {count}"
    else:
        text = f"run {found.run} was told: {want}; it hears within 5 s"
    _say_told(found, want, text, as_json, dry_run)


def _say_told(found: Found, want: str, text: str, as_json: bool, dry_run: bool = False) -> None:
    """The last words of who told a run something that its own controller carries out."""
    from backline import console

    if not as_json:
        say(text)
        return
    what = {"run": found.run, "want": want, "hosts": found.plan.hosts, "text": text}
    console.line({"schema_version": 1, "event": "plan" if dry_run else "told", **what})


TASKS = (resume, abort, pause, promote, catchup)
