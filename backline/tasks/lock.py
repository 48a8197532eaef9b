"""The leases: who holds the right to change an app, and how to free one whose holder is dead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks import operator, other_hands
from backline.tasks.command import say
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    YES_HELP,
    environment,
    insist,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backline.inventory import Environment
    from backline.operations.locks import Held
    from backline.operations.status import Row
    from backline.transport.fleet import SshFleet
    from backline.transport.port import HostError

SECONDS = 15.0
BY_ITSELF = "there it ends by itself within a minute"


@operation(help={"env": ENV_HELP, "on": ON_HELP + " (default: every host)", "json": JSON_HELP})
def show(c: Context, env: str = "", on: str = "", json: bool = False) -> None:
    """Show who holds the lease of which app, on which hosts, and in how many seconds it ends.

    Runs that nobody works on and that have not ended are told of, too. The exit code is 1 when a
    host does not answer.

    Examples:
        fab lock --env production
        fab lock --env lab --json
    """
    from backline import console
    from backline.operations import locks
    from backline.operations.status import require_all

    fleet = environment(env)
    with reach(fleet) as hosts:
        rows = _look(fleet, hosts, on)
    held, left = locks.held(rows), locks.left(rows)
    if json:
        for line in (*(lease.as_json() for lease in held), *(run.as_json() for run in left)):
            console.line(line)
    else:
        console.show_leases(held, left)
        if not held:
            say(_nobody(rows))
        if left:
            say("fab deploy.resume goes on with it, fab deploy.abort goes back")
    require_all(rows, "who holds a lease there is not known")


@operation(
    help={
        "env": ENV_HELP,
        "run": "whose lease (default: the only one that is held)",
        "force": "also while its holder is at work; needs --message",
        "message": "why: kept in the journal of every host",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
    }
)
def release(
    c: Context,
    env: str = "",
    run: str = "",
    force: bool = False,
    message: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
) -> None:
    """Free the lease of a run whose holder is dead, instead of waiting a minute. Always asks first.

    Whether somebody still renews it is watched for some seconds; then it is refused (5) unless
    --force says otherwise. The run itself stays unfinished: `fab deploy.resume` and
    `fab deploy.abort` wait for a dead holder's lease by themselves and need none of this. The exit
    code is 1 when a host does not answer; on the others the lease is freed.

    Examples:
        fab lock.release --env lab --dry-run
        fab lock.release --env production --message "ann's laptop is gone" --yes 12
    """
    if force and not message:
        raise BacklineError(
            "--force takes the lease from somebody at work: say why with --message",
            state="nothing was changed",
        )
    from backline.operations.status import require_all, silent

    fleet = environment(env)
    with reach(fleet) as hosts:
        rows = _look(fleet, hosts, "")
        held = _choose(rows, run)
        if held is None:
            say(f"{_nobody(rows)}: there is nothing to free")
            require_all(rows, "nothing was changed; who holds a lease there is not known")
            return
        names = list(held.tokens)
        alive = other_hands.is_alive(fleet, hosts, held.app, held.run, held.holder, names)
        _tell(held, alive, json, silent(rows))
        if alive and not force:
            raise BacklineError(
                f"{held.holder} is at work on run {held.run}",
                hosts=names,
                state="nothing was changed",
                hint=_instead(held.run)
                + "; --force with --message takes its lease all the same, and "
                "leaves hosts as they are at that moment",
                exit_code=Exit.LEASE_HELD,
            )
        if dry_run:
            require_all(rows, "nothing was changed")
            return
        insist(fleet, len(names), yes, json)
        _free(hosts, held, message, json)
        require_all(rows, f"freed on {wording.hosts(len(names))}; {BY_ITSELF}")


def _instead(run: str) -> str:
    from backline.operations import locks

    if run.startswith(locks.OF_ANSIBLE):
        return f"ask who began it: {run}"
    return "fab deploy.pause or fab deploy.abort tells that run"


def _look(fleet: Environment, hosts: SshFleet, on: str) -> list[Row]:
    from backline import selection
    from backline.operations.status import collect

    return collect(hosts, selection.select(fleet, on or selection.EVERYTHING), {})


def _nobody(rows: Sequence[Row]) -> str:
    """That there is no lease, as far as hosts have said."""
    from backline.operations.status import silent

    dead = silent(rows)
    if len(dead) == len({row.host for row in rows}):
        return "no host answered"
    return f"{'of the hosts that answered ' if dead else ''}nobody holds a lease"


def _choose(rows: Sequence[Row], run: str) -> Held | None:
    """The lease that is meant; None when none is held. BacklineError when it is not clear which."""
    from backline.operations import locks
    from backline.operations.status import silent

    held = locks.held(rows)
    chosen = [lease for lease in held if lease.run == run] if run else held
    if len(chosen) == 1:
        return chosen[0]
    if not held:
        return None
    known = ", ".join(dict.fromkeys(lease.run for lease in held))
    dead = silent(rows)
    raise BacklineError(
        f"no lease is held by run {run}" if run else f"{len(held)} leases are held",
        hosts=dead,
        state="nothing was changed" + ("; these hosts did not answer" if dead else ""),
        hint=f"name one: --run {held[0].run}; held by: {known}",
    )


def _tell(held: Held, alive: bool, as_json: bool, dead: Iterable[str]) -> None:
    """Names what is lost with the lease. `dead`: hosts that did not answer."""
    from backline import console
    from backline.console.words import listed

    if as_json:
        console.line({**held.as_json(), "event": "plan", "alive": alive})
        return
    until = time.strftime("%H:%M:%SZ", time.gmtime(operator.clock().time() + held.ends_in))
    who = "is AT WORK" if alive else "seems to be dead"
    say(f"{held.holder} {who}: run {held.run} of {held.app}")
    say(f"holds the lease on {listed(held.tokens)}, until {until} at least")
    say("without it that run is refused at its next step, and what it did until then stays")
    if names := listed(dead):
        say(f"{names} did not answer, and may have it too: {BY_ITSELF}")
    if held.unfinished:
        say(
            f"not finished on {listed(held.unfinished)}: fab deploy.resume or fab deploy.abort then"
        )


def _free(hosts: SshFleet, held: Held, message: str, as_json: bool) -> None:
    from backline import console

    actor = new_run(held.app, message).actor

    def work(host: str) -> None:
        fields: dict[str, Any] = {
            "action": "release",
            "app": held.app,
            "run": held.run,
            "token": held.tokens[host],
            "actor": actor,
            "message": message or "fab lock.release",
        }
        hosts.call(host, "lease", fields, deadline=SECONDS)

    outcomes = hosts.each(held.tokens, work, deadline=SECONDS)
    failed: dict[str, HostError] = {h: o.error for h, o in outcomes.items() if o.error is not None}
    freed = [host for host in outcomes if host not in failed]
    if as_json:
        console.line({**held.as_json(), "event": "freed", "hosts": freed})
    elif freed:
        say(f"freed on {wording.hosts(len(freed))}")
    if failed:
        raise BacklineError(
            wording.said(failed.values()),
            hosts=failed,
            state=f"freed on {wording.hosts(len(freed))}; {BY_ITSELF}",
            hint="fab lock",
        )


collection = Collection("lock")
collection.add_task(show, default=True)
collection.add_task(release)
