"""Rolling a release out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    YES_HELP,
    confirm,
    environment,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from pathlib import Path

    from backline.inventory import Environment
    from backline.release.store import Stored
    from backline.rollout.plan import Plan
    from backline.rollout.preflight import Look
    from backline.transport.fleet import SshFleet

DRY_HELP = "show the plan and end; nothing is changed"
MESSAGE_HELP = "why: kept in the journal of every host"


@operation(
    help={
        "env": ENV_HELP,
        "release": "its ID in dist/ (see inv release.list), or `latest`",
        "on": ON_HELP + " (default: every host that runs the app)",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
        "skip_local_check": "leave it to the hosts alone to verify signature and digests",
    }
)
def start(
    c: Context,
    env: str = "",
    release: str = "",
    on: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
    skip_local_check: bool = False,
) -> None:
    """Roll a release out, host by host; all hosts end on it, or all go back to what they had."""
    from backline import places, selection
    from backline.release import store
    from backline.rollout import plan, preflight

    fleet = environment(env)
    if not release:
        raise BacklineError(
            "which release? Name it: --release ID, or --release latest",
            state="nothing was changed",
            hint=f"newest first: {', '.join(reversed(store.ids(places.dist())[-5:])) or 'none'}; "
            "build one: inv release.build examples/jukebox",
        )
    stored = store.load(places.dist(), release)
    if not skip_local_check:
        store.verify(stored, _signers(fleet))
    selected = selection.select(fleet, on or selection.EVERYTHING)
    chosen = plan.hosts_of(stored.release, fleet.groups, selected)
    with reach(fleet) as hosts:
        looks = _look(hosts, chosen, stored.release.app)
        preflight.check(stored.release, looks)
        statuses = {host: look.status for host, look in looks.items()}
        intended = plan.deploy(stored.release, fleet.groups, statuses)
        _carry_out(fleet, hosts, intended, stored, (json, dry_run, yes, message))


@operation(
    help={
        "env": ENV_HELP,
        "to": "the release to go back to (default: the last good one before the live one)",
        "app": "which app, where the hosts run several",
        "on": ON_HELP + " (default: every host that runs the app)",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    }
)
def rollback(
    c: Context,
    env: str = "",
    to: str = "",
    app: str = "",
    on: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Go back to the last release that was marked good; it is on the hosts already."""
    from backline import selection
    from backline.rollout import plan, preflight

    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    with reach(fleet) as hosts:
        name = app or _the_app(hosts, selected)
        found = preflight.look(hosts, selected, name, _clock())
        for host in [h for h, look in found.items() if _lacks(look, name)]:
            del found[host]
        looks = preflight.require(found)
        statuses = {host: look.status for host, look in looks.items()}
        target = plan.choose_rollback(statuses, to)
        intended = plan.rollback(name, target, statuses)
        _carry_out(fleet, hosts, intended, None, (json, dry_run, yes, message))


def _carry_out(
    fleet: Environment,
    hosts: SshFleet,
    intended: Plan,
    stored: Stored | None,
    flags: tuple[bool, bool, int, str],
) -> None:
    """Shows the plan, asks if it must, and runs it."""
    from backline import console
    from backline.rollout.events import Event
    from backline.rollout.loop import Rollout

    as_json, dry_run, yes, message = flags
    run = new_run(intended.app, message)
    with console.Narrator(run.id, as_json) as narrator:
        if as_json:
            narrator.report(Event("plan", release=intended.release, data=_as_data(intended)))
        else:
            console.show_plan(intended)
    if dry_run:
        return
    confirm(fleet, len(intended.hosts), yes, as_json)
    files: tuple[Path, ...] = stored.files if stored else ()
    with console.Narrator(run.id, as_json) as narrator:
        Rollout(intended, hosts, run, _clock(), narrator.report, files).run()


def _as_data(plan: Plan) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "digest": plan.digest,
        "hosts": plan.hosts,
        **{k: v for k, v in asdict(plan).items() if k != "release"},
    }


def _look(hosts: SshFleet, chosen: list[str], app: str) -> dict[str, Look]:
    from backline.rollout import preflight

    return preflight.require(preflight.look(hosts, chosen, app, _clock()))


def _the_app(hosts: SshFleet, selected: list[str]) -> str:
    """The one app that the selected hosts run; BacklineError when there are several, or none."""
    outcomes = hosts.each(selected, lambda host: hosts.call(host, "facts", {}), deadline=25.0)
    names = sorted({str(app) for o in outcomes.values() if o.value for app in o.value["apps"]})
    if len(names) == 1:
        return names[0]
    dead = [o.error for o in outcomes.values() if o.error]
    raise BacklineError(
        f"which app? The hosts run {', '.join(names)}" if names else "no app runs on these hosts",
        hosts=[error.host for error in dead],
        state="nothing was changed" + (f"; {dead[0]}" if dead else ""),
        hint="name it with --app" if names else "fab status shows the fleet",
    )


def _lacks(look: object, app: str) -> bool:
    """True for a host that answered and does not have the app: it is none of this run's business."""
    from backline.transport.port import HostError

    return isinstance(look, HostError) and look.code == "unknown_app"


def _signers(fleet: Environment) -> tuple[str, ...]:
    """Whom the hosts trust, by the inventory; else our own key."""
    from backline.release import signing

    if fleet.allowed_signers:
        return fleet.allowed_signers
    key, _ = signing.signing_key()
    return (signing.signer_line(key),)


def _clock() -> Any:
    from backline.transport.clock import SystemClock

    return SystemClock()


collection = Collection("deploy")
collection.add_task(start, default=True)
