"""Building hosts: Ansible's work, started from here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from invoke.context import Context

from backline import stdout
from backline.errors import BacklineError, Exit
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    YES_HELP,
    confirm,
    environment,
    new_run,
    operation,
)

if TYPE_CHECKING:
    from pathlib import Path

    from backline.inventory import Environment
    from backline.provision.lock import Begun
    from backline.provision.recap import Recap
    from backline.tasks.converging import View
    from backline.transport.commandlog import Ended as Told
    from backline.transport.playbook import Ended

# Those that hand variables to roles.
OF_ROLES = ("site", "base", "broker", "database", "edge", "media", "monitor", "streaming", "worker")
PREFLIGHT = ["--tags", "preflight", "--check", "-e", "@playbooks/vars/preflight.yml"]
AGAIN = "the same command goes on: what is done already changes nothing"
HELP = {
    "env": ENV_HELP,
    "on": ON_HELP + " (default: every host)",
    "tags": "only tasks with these tags, comma-separated",
    "playbook": "another one of playbooks/",
    "stock": "without mitogen: Ansible's own strategy and SSH",
    "json": JSON_HELP,
}


@operation(
    help={
        **HELP,
        "check": "change nothing, tell what would change (exit 2 if anything would)",
        "diff": "show what changes in files",
        "dry_run": "only say what would be run on how many hosts; connects to none",
        "yes": YES_HELP,
    }
)
def provision(
    c: Context,
    env: str = "",
    on: str = "",
    tags: str = "",
    playbook: str = "site",
    check: bool = False,
    diff: bool = False,
    stock: bool = False,
    dry_run: bool = False,
    json: bool = False,
    yes: int = 0,
) -> None:
    """Build hosts, or bring them back to what the roles say: playbooks/site.yml by Ansible.

    Runs through mitogen, and first checks the variables of every role without a connection. The exit code
    is 1 when a host failed or is out of reach (the others go on), 5 while somebody provisions this
    environment from this checkout. The same command goes on. docs/how-to/provision.md

    Examples:
        fab provision --env staging --check --diff
        fab provision --env production --on 'streaming:&zone_a' --tags nginx
        fab provision --env production --playbook pki
    """
    from backline.tasks.converging import View

    fleet = environment(env)
    hosts = _chosen(fleet, on)
    limit, options = hosts if on else None, _options(tags, check, diff)
    view = View(json, diff)
    path = _path(playbook)
    doing = "provision" if path == "playbooks/site.yml" else f"{path} on"
    view.start(playbook, fleet.name, hosts, check, doing)
    if dry_run:
        view.would_run(_by_hand(fleet, path, limit, options))
        return
    if not check:
        confirm(fleet, len(hosts), yes, json)
    recap, ended = run(fleet, playbook, options, stock, view, limit)
    view.summary(recap, check)
    judge(recap, ended, check, by_hand(fleet, playbook, limit, options))


@operation(help=HELP)
def drift(
    c: Context,
    env: str = "",
    on: str = "",
    tags: str = "",
    playbook: str = "site",
    stock: bool = False,
    json: bool = False,
) -> None:
    """Tell where hosts differ from what the roles say, and change nothing; exit 2 if any does.

    site.yml in check mode: prints what differs, once for all hosts that share it. What holds secrets is
    named, its content hidden. The exit code is 1 on an error, or when a host is out of reach.

    Examples:
        fab drift --env production
        fab drift --env production --on edge --json
    """
    from backline.tasks.converging import View

    fleet = environment(env)
    hosts = _chosen(fleet, on)
    view = View(json, diff=True)
    view.quiet = True
    limit, options = hosts if on else None, _options(tags, True, True)
    recap, ended = run(fleet, playbook, options, stock, view, limit)
    view.differences(recap)
    judge(recap, ended, True, by_hand(fleet, playbook, limit, options))


def _chosen(fleet: Environment, on: str) -> list[str]:
    from backline import selection

    return selection.select(fleet, on) if on else list(fleet.hosts)


def _path(playbook: str) -> str:
    """The playbook's path in the checkout; BacklineError naming those that there are."""
    from backline import places

    known = sorted(path.stem for path in (places.root() / "playbooks").glob("*.yml"))
    name = playbook.removesuffix(".yml")
    if name not in known:
        raise BacklineError(
            f"there is no playbook {playbook!r}",
            state="nothing was changed",
            hint=f"playbooks: {', '.join(known)}",
        )
    return f"playbooks/{name}.yml"


def _options(tags: str, check: bool, diff: bool) -> list[str]:
    words = ["--tags", tags] if tags else []
    return words + ["--check"] * check + ["--diff"] * diff


def run(
    fleet: Environment,
    playbook: str,
    options: list[str],
    stock: bool,
    view: View,
    limit: Sequence[str] | None = None,
) -> tuple[Recap, Ended]:
    """Runs a playbook under the environment's lock, on the hosts of `limit` only, if that is given. One
    that changes hosts is in the audit trail before it begins, and told of by the next run, `fab status`
    and `fab doctor` if it is cut off. It goes on though nobody reads: Ansible would be cut off in the
    middle of a task."""
    from backline import places
    from backline.provision import lock
    from backline.provision.recap import Recap
    from backline.tasks.steps import mitogen
    from backline.transport import playbook as transport

    stdout.go_on()
    recap, path = Recap(), places.root() / _path(playbook)
    begun = _begun(path.stem, options, view.hosts)
    changes = "--check" not in options
    locked = lock.held(kept(), fleet.name, begun.actor, begun.since)
    with locked as held, _recorded(fleet, begun, view, changes) as told, view:
        for before in held.before:
            view.cut_off(str(before))
        if path.stem in OF_ROLES:
            _preflight(fleet, path, limit, kept())
        if changes:
            held.begin(begun)
        ended = transport.run(
            path,
            fleet.folder,
            cwd=places.root(),
            options=[*options, *_who(path.stem, begun, held.before)],
            limit=limit,
            env={} if stock else mitogen(),
            take=lambda event: view.take(recap, event),
        )
        code = Exit.INTERRUPTED if ended.interrupted else Exit.ERROR if ended.code else Exit.DONE
        # A host that went silent in the middle of patch.yml keeps that run's lease.
        lost = [
            name for name in recap.unreachable() if path.stem == "patch" and recap.hosts[name].ok
        ]
        if changes and not ended.interrupted:
            held.end(begun, well=not ended.code, lost=lost)
        told(int(code), [*recap.failed(), *recap.unreachable()])
    return recap, ended


def kept() -> Path:
    """Where runs keep what the next one has to know."""
    from backline import places

    return places.cache() / "provision"


def killed(fleet: Environment) -> str:
    """Which runs from here did not come to their end, and are not at work; empty when all did."""
    from backline.provision import lock

    return "; ".join(map(str, lock.cut_off(kept(), fleet.name)))


def _begun(playbook: str, options: Sequence[str], hosts: Sequence[str]) -> Begun:
    from datetime import UTC, datetime

    from backline.provision.lock import Begun

    run = new_run("", "")
    since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    tags = options[options.index("--tags") + 1] if "--tags" in options else ""
    return Begun(run.id, run.actor, since, _typed(), playbook, tags, tuple(hosts))


@contextmanager
def _recorded(fleet: Environment, begun: Begun, view: View, changes: bool) -> Iterator[Told]:
    """The audit trail, for a run that changes something."""
    from backline.transport import commandlog

    if not changes:
        yield lambda code, failed: None
        return
    what = {"command": begun.command, "on": ",".join(view.hosts), "sudo": False}
    who = {"run": begun.run, "actor": begun.actor, "message": ""}
    with commandlog.recorded(fleet.name, who, what, view.hosts) as told:
        yield told


def _who(playbook: str, begun: Begun, before: Sequence[Begun]) -> list[str]:
    """What patch.yml tells the hosts: whose run this is, and whose leases are nobody's any more."""
    import json

    if playbook != "patch":
        return []
    told = {
        "patch_run": f"patch-{begun.run}",
        "patch_holder": begun.actor,
        "patch_killed": ",".join(f"patch-{one.run}" for one in before),
    }
    return ["-e", json.dumps(told)]


def check_variables(fleet: Environment) -> None:
    """Checks the variables of all roles of site.yml, as a provision would; connects to no host.

    BacklineError says which are wrong. What has passed since it last changed is not checked again.
    """
    from backline import places

    kept().mkdir(exist_ok=True)
    _preflight(fleet, places.root() / _path("site"), None, kept())


def _preflight(fleet: Environment, path: Path, limit: Sequence[str] | None, folder: Path) -> None:
    """Checks every role's variables on every host of the run; connects to none of them.

    Ansible checks a role's arguments when it comes to the role: too late for the roles before it.
    What has passed since it last changed is not checked again; `folder` keeps what that was.
    """
    from backline import places
    from backline.provision import checked
    from backline.provision.recap import Recap
    from backline.transport import playbook as transport

    recap = Recap()
    wanted = checked.digest(places.root(), fleet.folder, path, [*(limit or ()), *PREFLIGHT])
    if checked.passed(folder, fleet.name, wanted):
        return
    ended = transport.run(
        path,
        fleet.folder,
        cwd=places.root(),
        options=PREFLIGHT,
        limit=limit,
        env={"ANSIBLE_GATHERING": "explicit"},
        take=recap.take,
    )
    if recap.troubles:
        wrong = {f"{trouble.task.split(' : ')[0]}: {trouble.message}" for trouble in recap.troubles}
        raise BacklineError(
            "variables that the roles do not take: " + "; ".join(sorted(wrong)),
            hosts=recap.failed(),
            state="nothing was changed, no host was connected to",
            hint=f"correct them in {fleet.folder}/group_vars",
        )
    if ended.interrupted or ended.code:
        judge(recap, ended, True, by_hand(fleet, path.stem, limit, PREFLIGHT))
    checked.remember(folder, fleet.name, wanted)


def by_hand(
    fleet: Environment, playbook: str, limit: Sequence[str] | None, options: Sequence[str]
) -> str:
    """How to run the same without us: Ansible says more."""
    import shlex

    return f"the same by hand: {shlex.join(_by_hand(fleet, _path(playbook), limit, options))}"


def _by_hand(
    fleet: Environment, path: str, limit: Sequence[str] | None, options: Sequence[str]
) -> list[str]:
    words = ["--limit", ",".join(limit)] if limit else []
    return ["ansible-playbook", "-i", str(fleet.folder), path, *words, *options]


def _typed() -> str:
    """The task as it was typed, to be typed again."""
    import shlex
    import sys

    return shlex.join(["fab", *sys.argv[1:]])


def judge(recap: Recap, ended: Ended, check: bool, again: str = "", pending: bool = True) -> None:
    """Raises what the run's end means; nothing when all went well and nothing is pending.

    `again`: what to type when Ansible itself gave up (default: the same task).
    `pending`: whether it is the question what is; a rehearsal of work that is always there asks not.
    """
    if ended.interrupted:
        raise BacklineError(
            "interrupted",
            state="hosts keep what was done so far",
            hint=AGAIN,
            exit_code=Exit.INTERRUPTED,
        )
    failed, lost = recap.failed(), recap.unreachable()
    if failed or lost:
        what = [
            f"{len(failed)} failed" if failed else "",
            f"{len(lost)} unreachable" if lost else "",
        ]
        raise BacklineError(
            f"hosts: {', '.join(filter(None, what))}",
            hosts=[*failed, *(name for name in lost if name not in failed)],
            state="nothing was changed: check mode"
            if check
            else "these hosts keep what was done so far; later plays left them out",
            hint=("see that the unreachable hosts are up; " if lost else "") + AGAIN,
        )
    if ended.code:
        raise BacklineError(
            f"ansible-playbook ended with {ended.code}",
            state=ended.said[-1500:] or "it gave no reason",
            hint=again or f"when that is corrected: {_typed()}",
        )
    if check and pending and recap.changes:
        raise SystemExit(int(Exit.CHANGES_PENDING))
