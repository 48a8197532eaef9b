"""A run that somebody else may be working on: telling it something, or waiting until it is dead."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backline import stdout, wording
from backline.errors import BacklineError, Exit
from backline.tasks import operator
from backline.tasks.command import say
from backline.tasks.operator import new_run

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.rollout.takeover import Found, Holder
    from backline.transport.fleet import SshFleet
    from backline.transport.port import HostError

POLL_SECONDS = 2.0
LONGEST_SECONDS = 600.0
WATCHED_SECONDS = 12.0
SECONDS = 25.0


def want(hosts: SshFleet, found: Found, wanted: str) -> bool:
    """Says on every host what we want of a run; False when nobody holds its lease.

    Raises BacklineError when that cannot be known, or no host took it.
    """
    app = found.plan.app
    fields = {"app": app, "run": found.run, "want": wanted, "actor": new_run(app, "").actor}
    leases, silent = _shown(hosts, app, found.run, found.plan.hosts)
    if not leases:
        if silent:
            raise _untold(silent)
        return False
    stdout.go_on()
    outcomes = hosts.each(
        found.plan.hosts, lambda host: hosts.call(host, "want", fields), deadline=SECONDS
    )
    errors = [outcome.error for outcome in outcomes.values() if outcome.error]
    if len(errors) == len(outcomes):
        raise _untold(errors)
    return True


def _untold(errors: Sequence[HostError]) -> BacklineError:
    return BacklineError(
        wording.said(errors),
        hosts=[error.host for error in errors],
        state="the run was not told",
        hint="fab status shows how it stands; the same command again",
    )


def wait(fleet: Environment, hosts: SshFleet, found: Found, may_end: bool = False) -> bool:
    """Waits until a run's controller is surely gone: its lease has run out, a minute at most; at once
    if it ran on this machine and does not any more.

    True when the run can be taken over. A lease that is being renewed is somebody at work: then
    BacklineError (5), or, with `may_end`, False as soon as that run has ended by itself.
    """
    first: float | None = None
    began = time.monotonic()
    while leases := live_leases(hosts, found):
        holder = str(next(iter(leases.values()))["holder"])
        if holder == new_run(found.plan.app, "").actor and _gone_from_here(fleet, found.run):
            return True
        left = max(float(lease["expires_in"]) for lease in leases.values())
        ends = time.monotonic() + left
        if first is None:
            first = ends
            say(f"{holder} holds the lease of run {found.run}; it ends in {left:.0f} s")
        elif ends > first + 3.0 and not may_end:
            raise BacklineError(
                f"{holder} is at work on run {found.run}",
                hosts=leases,
                state="nothing was changed",
                hint="fab deploy.pause or fab deploy.abort tells that run",
                exit_code=Exit.LEASE_HELD,
            )
        if may_end and _ended(hosts, found):
            return False
        if time.monotonic() - began > LONGEST_SECONDS:
            raise BacklineError(
                f"run {found.run} has not ended within {LONGEST_SECONDS / 60:.0f} minutes",
                hosts=leases,
                state=f"{holder} holds its lease",
                hint="fab status shows the fleet",
                exit_code=Exit.LEASE_HELD,
            )
        time.sleep(POLL_SECONDS)
    return not (may_end and _ended(hosts, found))  # it frees its lease when it ends


def who_holds(fleet: Environment, hosts: SshFleet, found: Found) -> Holder | None:
    """Who holds the lease of a run; None when nobody does, or who did ran on this machine and is dead."""
    leases = live_leases(hosts, found)
    if not leases:
        return None
    name = str(next(iter(leases.values()))["holder"])
    if name == new_run(found.plan.app, "").actor and _gone_from_here(fleet, found.run):
        return None
    return name, max(float(lease["expires_in"]) for lease in leases.values())


def is_alive(
    fleet: Environment, hosts: SshFleet, app: str, run: str, holder: str, names: Sequence[str]
) -> bool:
    """Whether somebody renews the lease of a run: watched for as long as two renewals take.

    False at once when it was started on this machine and does not run any more. A playbook renews nothing:
    one that was started elsewhere counts as alive, and so does who cannot be seen since hosts are silent.
    """
    from backline.operations.locks import OF_ANSIBLE

    if run.startswith(OF_ANSIBLE):
        return not _killed_here(fleet, run)
    if holder == new_run(app, "").actor and _gone_from_here(fleet, run):
        return False
    clock = operator.clock()
    say(f"is {holder} at work? Watching for {WATCHED_SECONDS:.0f} s whether the lease is renewed")
    began = clock.monotonic()
    first: float | None = None
    while True:
        leases, silent = _shown(hosts, app, run, names)
        now = clock.monotonic()
        if leases:
            ends = now + max(float(lease["expires_in"]) for lease in leases.values())
            first = ends if first is None else first
            if ends > first + 3.0:
                return True
        elif not silent:
            return False
        if now - began >= WATCHED_SECONDS:
            break
        clock.sleep(POLL_SECONDS)
    if not leases:
        say(f"{wording.said(silent)}: whether {holder} is at work cannot be seen from here")
    return not leases


def live_leases(hosts: SshFleet, found: Found) -> dict[str, Mapping[str, Any]]:
    """The live leases of the run, by host. Raises BacklineError when no host answers: a lease that cannot
    be seen is not one that has run out."""
    leases, silent = _shown(hosts, found.plan.app, found.run, found.plan.hosts)
    if len(silent) == len(found.plan.hosts):
        raise BacklineError(
            f"no host says whether somebody is at work on run {found.run}\n{wording.said(silent)}",
            hosts=[error.host for error in silent],
            state="this command changed nothing",
            hint="fab doctor; then the same command again",
        )
    return leases


def _shown(
    hosts: SshFleet, app: str, run: str, names: Iterable[str]
) -> tuple[dict[str, Mapping[str, Any]], list[HostError]]:
    """The live leases of a run by host, and what hosts said that have no answer."""
    fields = {"app": app, "action": "show"}
    outcomes = hosts.each(names, lambda host: hosts.call(host, "lease", fields), deadline=SECONDS)
    shown = {host: outcome.value["lease"] for host, outcome in outcomes.items() if outcome.value}
    silent = [outcome.error for outcome in outcomes.values() if outcome.error]
    return {h: lease for h, lease in shown.items() if lease and lease["run"] == run}, silent


def _ended(hosts: SshFleet, found: Found) -> bool:
    fields = {"app": found.plan.app}
    outcomes = hosts.each(
        found.plan.hosts, lambda host: hosts.call(host, "status", fields), deadline=SECONDS
    )
    runs = [o.value["run"] for o in outcomes.values() if o.value and o.value.get("run")]
    return bool(runs) and all(run["ended"] for run in runs if run["run"] == found.run)


def _killed_here(fleet: Environment, run: str) -> bool:
    """True when a playbook was started on this machine, and does not run any more."""
    from backline.provision import lock
    from backline.tasks.provision import kept

    if not any(run.endswith(found.run) for found in lock.cut_off(kept(), fleet.name)):
        say("a playbook renews no lease: whether it is at work cannot be seen from here")
        return False
    return True


def _gone_from_here(fleet: Environment, run: str) -> bool:
    """True when the run was started on this machine and no process has its journal open."""
    from backline import places
    from backline.transport import runlog

    path = places.runs(fleet.name) / run / "journal.jsonl"
    return path.exists() and not runlog.is_open(path)
