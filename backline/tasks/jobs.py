"""Single jobs: dead letters, and one that is not to be done. Part of `fab workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline.errors import BacklineError, Exit
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    MESSAGE_HELP,
    confirm,
    environment,
    group,
    new_run,
    operation,
    reach,
    several,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.workers.letters import Asker, Letters, Moved, Wish
    from backline.transport.fleet import SshFleet

WHICH = {
    "task": "only of this task; `music.*` means all whose names begin so",
    "job": "only these, by ID, comma-separated",
    "origin": "only those that died in this queue",
    "queue": "where dead letters lie",
    "limit": "look at so many letters at most, the oldest first",
    "env": ENV_HELP,
    "app": "which app, where the hosts run several",
    "json": JSON_HELP,
}
TOP = 10_000


@operation(help=WHICH)
def dead(
    c: Context,
    task: str = "",
    job: str = "",
    origin: str = "",
    queue: str = "dead",
    limit: int = 1000,
    env: str = "",
    app: str = "",
    json: bool = False,
) -> None:
    """Show dead letters: job, task, where, why and when it died, how often. They stay where they are.

    Examples:
        fab workers.dead --env lab
        fab workers.dead --env lab --task 'music.*' --origin plays
    """
    from backline import console

    fleet = environment(env)
    wish = _wish(task, job, origin, queue, limit)
    with reach(fleet) as hosts:
        letters = _asker(fleet, hosts, app, "").dead(wish)
    if json:
        for letter in letters.letters:
            console.line({"schema_version": 1, "event": "letter", "dead": queue, **letter})
        counts = {"there": letters.there, "seen": letters.seen, "fit": len(letters.letters)}
        console.line({"schema_version": 1, "event": "letters", "dead": queue, **counts})
    else:
        console.show_letters(letters, queue)


@operation(
    help={
        **WHICH,
        "to": "send them to this queue instead of the one each died in",
        "dry_run": DRY_HELP,
        "yes": "answer the question for how many letters this moves",
        "message": MESSAGE_HELP,
    }
)
def requeue(
    c: Context,
    task: str = "",
    job: str = "",
    origin: str = "",
    queue: str = "dead",
    to: str = "",
    limit: int = 1000,
    env: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Send dead letters round again, with all their tries. None is lost: each leaves when it is confirmed.

    Mend what they died of first. Whatever breaks in between, the same command goes on; a job may be done
    twice then.

    Examples:
        fab workers.requeue --env lab --dry-run
        fab workers.requeue --env lab --task music.record_play
    """
    fleet = environment(env)
    wish = _wish(task, job, origin, queue, limit, to)
    with reach(fleet) as hosts:
        asker = _asker(fleet, hosts, app, message)
        letters = asker.dead(wish)
        _show(letters, wish, json)
        count = len(letters.letters)
        if dry_run or not count:
            return
        confirm(fleet, count, yes, json, "dead letter")
        try:
            moved = asker.requeue(wish, letters, lambda so_far: _progress(so_far, count, json))
        except KeyboardInterrupt:
            raise BacklineError(
                "interrupted",
                state="none is lost; what was begun on the host goes on for a minute at most",
                hint="fab workers.dead shows what is left, the same command again goes on",
                exit_code=Exit.INTERRUPTED,
            ) from None
    _tell(moved, count, json)


@operation(
    positional=["job"],
    help={
        "job": "which job, the first word: its ID",
        "terminate": "also end it where it is being done: its process is killed",
        "env": ENV_HELP,
        "app": WHICH["app"],
        "json": JSON_HELP,
        "dry_run": "say who has it and end; nobody is told",
        "yes": "answer the question: 1, the job",
        "message": MESSAGE_HELP,
    },
)
def revoke(
    c: Context,
    job: str,
    terminate: bool = False,
    env: str = "",
    app: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Have a job left undone, wherever it waits: it is lost. Workers that start later do not know of it.

    One that is being done is done to its end, unless --terminate kills the process that does it.

    Examples:
        fab workers.revoke 0f6c1e52-6f3c-4d38-93a7-6a3f8f0c2b1d --env lab --dry-run
        fab workers.revoke 0f6c1e52-6f3c-4d38-93a7-6a3f8f0c2b1d --env lab --terminate
    """
    from backline import console

    fleet = environment(env)
    with reach(fleet) as hosts:
        asker = _asker(fleet, hosts, app, message)
        found = asker.revoke(job, terminate, dry=True)["found"]
        if not json:
            console.console().print(_where(job, found, terminate), markup=False)
        if dry_run:
            _revoked(job, found, [], json)
            return
        confirm(fleet, 1, yes, json, "job")
        heard = asker.revoke(job, terminate, dry=False)["confirmed"]
    if not heard:
        raise BacklineError(
            "no worker answered that it heard",
            state=f"job {job} may still be done",
            hint="fab workers.status shows who answers",
        )
    _revoked(job, found, heard, json)


def _wish(task: str, job: str, origin: str, queue: str, limit: int, to: str = "") -> Wish:
    from backline.operations.workers.letters import Wish

    if not 1 <= limit <= TOP:
        raise BacklineError(f"--limit is a number from 1 to {TOP}", state="nothing was changed")
    jobs = tuple(several(job, "--job"))
    return Wish(queue=queue, task=task, jobs=jobs, origin=origin, to=to, limit=limit)


def _asker(fleet: Environment, hosts: SshFleet, app: str, message: str) -> Asker:
    from backline.operations.workers.letters import Asker
    from backline.tasks.deploy import the_app

    names = group(fleet, "worker")
    name = app or the_app(hosts, names)
    return Asker(hosts, name, names, new_run(name, message).who)


def _show(letters: Letters, wish: Wish, as_json: bool) -> None:
    from backline import console

    kinds = letters.kinds()
    if as_json:
        rows = [
            {"task": task, "queue": wish.to or queue, "why": why, "count": count}
            for task, queue, why, count in kinds
        ]
        console.line({"schema_version": 1, "event": "plan", "action": "requeue", "kinds": rows})
        return
    out = console.console()
    for task, queue, why, count in kinds:
        out.print(f"  {count:5} {task} ({why}) → {wish.to or queue}", markup=False)
    out.print(f"  {len(letters.letters)} of {letters.there} letters in {wish.queue}", markup=False)


def _progress(so_far: int, count: int, as_json: bool) -> None:
    from backline import console

    if as_json:
        console.line({"schema_version": 1, "event": "moved", "moved": so_far, "of": count})
    else:
        console.console().print(f"  {so_far} of {count} moved", markup=False)


def _tell(moved: Moved, count: int, as_json: bool) -> None:
    from backline import console

    if as_json:
        counts = {"moved": moved.moved, "held": moved.held, "kept": moved.kept}
        console.line({"schema_version": 1, "event": "done", **counts})
    for letter in () if as_json else moved.kept:
        console.console().print(f"  {letter['id']} stays: {letter['kept']}", markup=False)
    if not as_json and moved.held > len(moved.kept):
        more = moved.held - len(moved.kept)
        console.console().print(f"  and {more} more stay", markup=False)
    if moved.moved + moved.held < count:
        raise BacklineError(
            f"{moved.moved} of {count} letters were moved: the others were not there any more",
            state="none is lost by this",
            hint="fab workers.dead shows what is left",
        )


def _where(job: str, found: dict[str, Any], terminate: bool) -> str:
    if not found:
        return f"no worker has {job}: it waits in a queue, is done, or never was"
    places = []
    for node, (state, known) in found.items():
        fate = "is ended there" if terminate else "is done to its end there"
        doing = f"and {fate}" if state == "active" else "and is left undone"
        places.append(f"{node} has {known['task']} {job}: {state}, {doing}")
    return "\n".join(places)


def _revoked(job: str, found: dict[str, Any], heard: list[str], as_json: bool) -> None:
    from backline import console

    if as_json:
        found = {node: {"state": state, **known} for node, (state, known) in found.items()}
        what = {"job": job, "found": found, "confirmed": heard}
        console.line({"schema_version": 1, "event": "revoked" if heard else "plan", **what})
    elif heard:
        console.console().print(f"{len(heard)} workers heard: {', '.join(heard)}", markup=False)
