"""The second half of a migration, which a deploy never runs by itself."""

from __future__ import annotations

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks import operator
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


@operation(
    help={
        "env": ENV_HELP,
        "release": "the release that is live on every host",
        "app": "which app, where the hosts run several",
        "json": JSON_HELP,
        "dry_run": "only check that it may be done",
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    }
)
def contract(
    c: Context,
    env: str = "",
    release: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Run a release's contract migrations; no rollback leads back across them.

    They take away what older releases may need, so no deploy runs them by itself. Refused while any host
    runs another release or does not answer.

    Examples:
        fab deploy.contract --env production --dry-run
        fab deploy.contract --env production --message "nobody reads the old column"
    """
    from backline import console
    from backline.rollout import choices
    from backline.rollout import contract as contracting
    from backline.tasks.taking_over import statuses_of, the_app_of

    fleet = environment(env)
    with reach(fleet) as hosts:
        name = app or the_app_of(fleet, hosts)
        statuses, missing = statuses_of(fleet, hosts, name)
        if missing:
            raise BacklineError(
                wording.said(missing.values()),
                hosts=missing,
                state="nothing was changed: every host must know that it cannot go back",
                hint="bring them up first",
            )
        wanted = release or choices.the_live_release(statuses)
        contracting.require_live(statuses, wanted)
        first = next(iter(statuses))
        if json:
            what = {"app": name, "release": wanted, "migrate_on": first, "hosts": list(statuses)}
            console.line({"schema_version": 1, "event": "plan", **what})
        else:
            console.console().print(
                f"contract migrations of {name} {wanted} on {first}; "
                f"{wording.hosts(len(statuses))} will not go back to an older release",
                markup=False,
            )
        if dry_run:
            return
        confirm(fleet, len(statuses), yes, json)
        run = new_run(name, message)
        fences = {host: int(status["fence"]) for host, status in statuses.items()}
        with console.Narrator(run.id, json) as narrator:
            contracting.carry_out(
                hosts, wanted, list(statuses), fences, run, operator.clock(), narrator.report
            )
