"""The database's backups, and its way back from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from backline.errors import BacklineError, Exit
from backline.tasks import operator, provision
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    YES_HELP,
    confirm,
    environment,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.backups import Job
    from backline.transport.fleet import SshFleet

KINDS = ("full", "diff")
JOB_HELP = {
    "env": ENV_HELP,
    "json": JSON_HELP,
    "dry_run": DRY_HELP,
    "yes": YES_HELP,
    "message": "why: kept in the journal of the host",
}


def known(fleet: Environment, hosts: SshFleet) -> tuple[str, list[Job], str]:
    """(the host with the backups, its jobs, why nothing is known of them)."""
    from backline.operations import backups
    from backline.transport.port import HostError

    try:
        keeper = backups.keeper(fleet.groups)
    except BacklineError as error:
        return "", [], error.message
    try:
        return keeper, backups.collect(hosts, keeper), ""
    except HostError as error:
        return keeper, [], backups.unknown(error)


@operation(
    help={**JOB_HELP, "kind": "full, or diff: what changed since the last full one"},
    choices={"kind": KINDS},
)
def backup(
    c: Context,
    kind: str = "diff",
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Make a backup of the database now, and follow it. It goes on without us.

    One that runs already is followed instead of a second one. Ctrl-C ends the following (130), not the
    backup; fab db.status tells how it went.

    Examples:
        fab db.backup --env production
        fab db.backup --env production --kind full --message "before the migration"
    """
    if kind not in KINDS:
        raise BacklineError(f"--kind is full or diff, not {kind!r}", state="nothing was started")
    _run(kind, env, json, dry_run, yes, message)


@operation(help=JOB_HELP)
def drill(
    c: Context,
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Rehearse a restore now: the newest backup into a scratch cluster, compared with the leader.

    The cluster is not touched. It goes on without us, as a backup does.

    Examples:
        fab db.drill --env production
    """
    _run("drill", env, json, dry_run, yes, message)


@operation(
    help={
        "env": ENV_HELP,
        "to": "to when: a time with its zone such as 2026-11-26T02:59:00+00:00, or newest",
        "folder": "beside: a folder that does not exist yet; nothing else is touched",
        "replace": "in place: the name of the cluster that is replaced, and loses what came later",
        "host": "beside: where (default: the host with the backups); in place: who will lead",
        "timeline": "latest (default), or the number of an older one",
        "check": "refuse or say what would be done; change nothing",
        "json": JSON_HELP,
        "dry_run": "only say what would be run; connects to no host",
        "yes": YES_HELP,
    },
    choices={"to": ("newest",), "timeline": ("latest",)},
)
def restore(
    c: Context,
    env: str = "",
    to: str = "",
    folder: str = "",
    replace: str = "",
    host: str = "",
    timeline: str = "",
    check: bool = False,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
) -> None:
    """Bring the database back as it was: beside (--folder) or in place (--replace). docs/how-to/restore.md

    Beside touches nothing else, and leaves a server to look into. In place asks for the cluster's name,
    replaces it, and keeps the old data; writes fail for some seconds. Without either, or with both, it is
    refused (6). --check asks the archive whether it can be done.

    Examples:
        fab db.restore --env production --to newest --folder /var/lib/backline-backup/look --check
        fab db.restore --env production --to 2026-11-26T02:59:00+00:00 --folder /var/lib/backline-backup/look
        fab db.restore --env production --to 2026-11-26T02:59:00+00:00 --replace jukebox
    """
    from backline.tasks.converging import View

    fleet = environment(env)
    options = restore_options(to, folder, replace, host, timeline)
    touched = touched_by_restore(fleet, folder, host)
    view = View(json, diff=False)
    view.start("restore", fleet.name, touched, check, "restore the database on")
    words = options + (["--check"] if check else [])
    if dry_run:
        view.would_run(
            ["ansible-playbook", "-i", str(fleet.folder), "playbooks/restore.yml", *words]
        )
        return
    if not check:
        confirm(fleet, len(touched), yes, json)
    recap, ended = provision.run(fleet, "restore", words, False, view)
    view.summary(recap, check)
    provision.judge(recap, ended, check)


def restore_options(to: str, folder: str, replace: str, host: str, timeline: str) -> list[str]:
    """What playbooks/restore.yml is told. Raises BacklineError (6) when it is not one of its two ways."""
    if bool(folder) == bool(replace):
        raise BacklineError(
            "a restore is either beside (--folder) or in place (--replace NAME-OF-CLUSTER)",
            state="nothing was touched",
            hint="if in doubt, beside: docs/how-to/restore.md",
            exit_code=Exit.GUARD_REFUSED,
        )
    wanted = {
        "restore_mode": "beside" if folder else "in_place",
        "restore_to": to,
        "restore_folder": folder,
        "restore_confirm": replace,
        "restore_host": host,
        "restore_timeline": timeline,
    }
    return [
        word for name, value in wanted.items() if value for word in ("-e", f"{name}={_word(value)}")
    ]


def touched_by_restore(fleet: Environment, folder: str, host: str) -> list[str]:
    """The hosts that it changes."""
    if folder:
        return [host] if host else list(fleet.groups.get("backup", ()))
    return list(fleet.groups.get("database", ()))


def _word(value: str) -> str:
    """As Ansible's key=value takes it. Raises BacklineError for what could be more than one value."""
    if any(character in value for character in " '\"\\{}\n\t"):
        raise BacklineError(
            f"{value!r} has characters that none of these has: blanks, quotes, braces",
            state="nothing was touched",
            hint="a time: 2026-11-26T02:59:00+00:00",
        )
    return value


def _run(job: str, env: str, json: bool, dry_run: bool, yes: int, message: str) -> None:
    from backline import console
    from backline.operations import backups
    from backline.transport.port import HostError

    fleet = environment(env)
    keeper = backups.keeper(fleet.groups)
    run = new_run("database", message)

    def say(text: str) -> None:
        if json:
            console.line({"schema_version": 1, "event": "log", "job": job, "text": text})
        else:
            console.console().print(f"  {text}", markup=False, soft_wrap=True)

    say(f"{job} on {keeper} of {fleet.name}")
    if dry_run:
        return
    confirm(fleet, 1, yes, json)
    with reach(fleet) as hosts:
        try:
            ended = backups.run(hosts, keeper, job, operator.clock(), say, run.who)
        except HostError as error:
            state = "what was started goes on; fab db.status tells how it went"
            raise error.for_people(state) from None
        except KeyboardInterrupt:
            raise BacklineError(
                "interrupted: nobody follows it any more",
                hosts=[keeper],
                state=f"the job {job} goes on there",
                hint="fab db.status tells how it went",
                exit_code=Exit.INTERRUPTED,
            ) from None
    if json:
        console.line(ended.as_json(keeper))
    else:
        say(f"{job}: good")
