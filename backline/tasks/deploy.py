"""Rolling a release out, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError, Exit
from backline.tasks import contract, operator, planning, taking_over
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    MESSAGE_HELP,
    ON_HELP,
    YES_HELP,
    environment,
    new_run,
    operation,
    reach,
)
from backline.tasks.planning import Wish
from backline.tasks.rolling import Options, as_data, carry_out

if TYPE_CHECKING:
    from backline.transport.fleet import SshFleet

DRY_HELP = "show the plan and end; nothing is changed"
EVERY_HOST = ON_HELP + " (default: every host that runs the app)"
RELEASE_HELP = "its ID in dist/ (see inv release.list), or `latest`"
RULES_HELP = {
    "batches": "how far each batch goes, in hosts or percent: 1,10%,50%,100%",
    "by": "`zone`: no batch spans two zones",
    "budget": "hosts, or percent, that may fail before everything goes back",
    "soak": "seconds to watch after each batch; the last number counts for all later ones: 30,10",
    "floor": "share of each process's hosts that always serves a proven release: 50%",
    "unsure": "what too few requests to judge by mean: go, pause or back",
}
RULES_CHOICES = {"by": ("zone",), "unsure": ("go", "pause", "back")}
PLAN_HELP = {
    "env": ENV_HELP,
    "release": RELEASE_HELP,
    "on": EVERY_HOST,
    **RULES_HELP,
    "quarantine": "hosts to leave out, and to remember until `fab deploy.catchup`",
    "accept_schema": "go back across contract migrations",
    "whole": "send whole archives, no patches",
    "json": JSON_HELP,
}


@operation(
    help={
        **PLAN_HELP,
        "plan": "exactly the plan of this hash (see fab deploy.plan); refused if the world changed",
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
        "takeover": "give up an unfinished run and take its place",
        "skip_local_check": "leave it to the hosts alone to verify signature and digests; no patches",
    },
    choices=RULES_CHOICES,
)
def start(
    c: Context,
    env: str = "",
    release: str = "",
    on: str = "",
    plan: str = "",
    batches: str = "",
    by: str = "",
    budget: str = "",
    soak: str = "",
    floor: str = "",
    unsure: str = "",
    quarantine: str = "",
    accept_schema: bool = False,
    whole: bool = False,
    takeover: bool = False,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
    skip_local_check: bool = False,
) -> None:
    """Roll a release out, batch by batch; all hosts end on it, or all go back to what they had.

    `fab deploy` is short for it. Exit codes: 0 all new; 4 a host failed beyond the budget, or listeners
    noticed, and all are back; 3 it stopped and hosts differ, the message says how; 5 somebody else is
    at it; 6 refused; 130 interrupted, fab deploy.resume or fab deploy.abort. docs/how-to/deploy.md

    Examples:
        fab deploy --env lab --release latest --message "faster search"
        fab deploy --env production --release 20261122T190500Z-1a2b3c4 --by zone --dry-run
        fab deploy --env production --plan 97a34c80be90 --yes 12
    """
    fleet = environment(env)
    rules = _rules(batches, by, budget, soak, floor, unsure)
    wish = Wish(release, on, rules, quarantine, accept_schema, whole, skip_local_check)
    before = None
    if plan:
        if release or on or rules or quarantine:
            raise BacklineError(
                "a saved plan has its own release, hosts and rules",
                state="nothing was changed",
                hint=f"fab deploy --env {fleet.name} --plan {plan}",
            )
        wish, before = planning.saved(fleet, plan)
    planning.named(wish.release)
    with reach(fleet) as hosts:
        intended, options = planning.deploy(fleet, hosts, wish, dry=dry_run)
        if before is not None:
            planning.refuse_change(before, intended)
        options = replace(options, as_json=json, dry_run=dry_run, yes=yes, replace=takeover)
        carry_out(fleet, hosts, intended, new_run(intended.app, message), options)


@operation(name="plan", help=PLAN_HELP, choices=RULES_CHOICES)
def plan_(
    c: Context,
    env: str = "",
    release: str = "",
    on: str = "",
    batches: str = "",
    by: str = "",
    budget: str = "",
    soak: str = "",
    floor: str = "",
    unsure: str = "",
    quarantine: str = "",
    accept_schema: bool = False,
    whole: bool = False,
    json: bool = False,
) -> None:
    """Show what a deploy would do, and keep it under a hash; exit 2 if it would change anything.

    It looks at the hosts and changes nothing. The last line is the command that runs exactly this plan,
    and refuses (6) when the world has changed since.

    Examples:
        fab deploy.plan --env production --release latest
        fab deploy.plan --env production --release latest --on 'streaming:&zone_a' --batches 1,100%
    """
    from backline import console
    from backline.rollout.events import Event

    fleet = environment(env)
    rules = _rules(batches, by, budget, soak, floor, unsure)
    wish = Wish(planning.named(release), on, rules, quarantine, accept_schema, whole)
    with reach(fleet) as hosts:
        intended, _ = planning.deploy(fleet, hosts, replace(wish, release=release), dry=True)
    if release == "latest":
        wish = replace(wish, release=intended.release)
    planning.save(fleet, intended, wish)
    if json:
        event = Event("plan", release=intended.release, data=as_data(intended))
        console.line(event.as_json("", 0))
    else:
        console.show_plan(intended)
        print(f"fab deploy --env {fleet.name} --plan {intended.digest}")
    if intended.changes or intended.shipments:
        raise SystemExit(Exit.CHANGES_PENDING)


@operation(
    help={
        "env": ENV_HELP,
        "to": "the release to go back to (default: the last good one before the live one)",
        "app": "which app, where the hosts run several",
        "on": EVERY_HOST,
        "accept_schema": "go back across contract migrations",
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
    accept_schema: bool = False,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Go back to the last release that was marked good, everywhere at once; it is there already.

    Where the old processes are still warm it takes a second. It takes the place of an unfinished run, and
    is refused (5) while somebody works on one: fab deploy.abort tells that one. Refused (6) across
    contract migrations unless --accept-schema, and for a release that was marked bad; 3 when hosts
    differ in the end.

    Examples:
        fab rollback --env production --dry-run
        fab rollback --env production --message "pages answer 500 since 03:40"
        fab rollback --env production --to 20261121T101500Z-0f9e8d7
    """
    from backline import selection
    from backline.operations.status import unanswered
    from backline.rollout import choices, lease, planner, preflight, quarantine
    from backline.transport.port import Unreachable

    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    with reach(fleet) as hosts:
        name = app or the_app(hosts, selected)
        found = preflight.look(hosts, selected, name, operator.clock())
        for host in [h for h, look in found.items() if _lacks(look)]:
            del found[host]
        missing = {h: e for h, e in found.items() if isinstance(e, Unreachable)}
        looks = preflight.require({h: e for h, e in found.items() if h not in missing})
        if missing and not looks:
            raise unanswered(missing, len(selected))
        away = quarantine.known(look.status for look in looks.values())
        statuses = {host: look.status for host, look in looks.items() if host not in away}
        if not dry_run:
            lease.let_nobody_work(statuses)
        target = choices.choose_rollback(statuses, to)
        choices.guard_schema(statuses, target, accept_schema)
        intended = planner.rollback(name, target, statuses)
        options = Options(
            as_json=json,
            dry_run=dry_run,
            yes=yes,
            fences={host: int(status["fence"]) for host, status in statuses.items()},
            replace=True,
            missing={host: error for host, error in missing.items() if host not in away},
        )
        carry_out(fleet, hosts, intended, new_run(name, message), options)


def _rules(
    batches: str, by: str, budget: str, soak: str, floor: str, unsure: str
) -> dict[str, str]:
    given = {
        "batches": batches,
        "by": by,
        "budget": budget,
        "soak": soak,
        "floor": floor,
        "unsure": unsure,
    }
    return {name: value for name, value in given.items() if value}


def the_app(hosts: SshFleet, selected: list[str]) -> str:
    """The one app that the selected hosts run; BacklineError when there are several, or none, or when
    nobody who could tell answers."""
    from backline.operations.status import unanswered

    outcomes = hosts.each(selected, lambda host: hosts.call(host, "facts", {}), deadline=25.0)
    names = sorted({str(app) for o in outcomes.values() if o.value for app in o.value["apps"]})
    if len(names) == 1:
        return names[0]
    dead = {host: o.error for host, o in outcomes.items() if o.error}
    if dead and not names:
        some = len(dead) < len(outcomes)
        also = "no app runs on the hosts that answered" if some else ""
        raise unanswered(dead, len(outcomes), also)
    raise BacklineError(
        f"which app? The hosts run {', '.join(names)}" if names else "no app runs on these hosts",
        state="nothing was changed",
        hint="name it with --app" if names else "fab status shows the fleet",
    )


def _lacks(look: object) -> bool:
    """True for a host that answered and does not have the app: it is none of this run's business."""
    from backline.transport.port import HostError

    return isinstance(look, HostError) and look.code == "unknown_app"


collection = Collection("deploy")
collection.add_task(start, default=True)
collection.add_task(plan_)
for _task in (*taking_over.TASKS, contract.contract):
    collection.add_task(_task)
