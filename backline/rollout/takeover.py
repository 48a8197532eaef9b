"""A run whose controller is gone, put together again from what its hosts know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backline.errors import BacklineError, Exit
from backline.rollout import plan as plans
from backline.rollout.events import Event
from backline.rollout.losses import LEFT_OUT, RETREAT, STRANGER
from backline.rollout.plan import Plan
from backline.selection import unfold
from backline.transport.port import HostError

Holder = tuple[str, float]
"""Who holds a lease, and in how many seconds it ends unless they renew it."""


@dataclass(frozen=True)
class Move:
    """A process of an unfinished run: the release that is live `now`, and the one it ends on, `to`.

    None: nothing runs there, or is to.
    """

    host: str
    process: str
    now: str | None
    to: str | None


@dataclass(frozen=True)
class Found:
    """An unfinished run. `retreating`: it was on its way back already. `left_out`: hosts that it had
    given up. `strangers`: hosts of its plan that answer, and that it never reached, or another run has
    replaced it there; with True if they serve its release. `complete`: all hosts know the run."""

    run: str
    plan: Plan
    fences: dict[str, int]
    retreating: bool
    left_out: tuple[str, ...]
    complete: bool
    hosts: str
    strangers: dict[str, bool]


def unfinished(statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The runs that have not ended, and the hosts that say so."""
    found: dict[str, list[str]] = {}
    for host, status in statuses.items():
        run = status.get("run")
        if run and not run.get("ended"):
            found.setdefault(str(run["run"]), []).append(host)
    return found


def choose(statuses: Mapping[str, Mapping[str, Any]], named: str) -> Found:
    """The unfinished run, or the one that was `named`, by its ID or the beginning of it. Raises
    BacklineError when there is none, or several to choose from."""
    runs = unfinished(statuses)
    fits = [named] if named in runs else [run for run in runs if run.startswith(named)]
    if named and not fits:
        raise BacklineError(
            f"no host knows an unfinished run {named}",
            state="nothing was changed",
            hint=f"unfinished: {', '.join(runs) or 'none'}; fab status shows the fleet",
        )
    if not fits:
        raise BacklineError(
            "no run is unfinished", state="nothing was changed", hint="fab status shows the fleet"
        )
    if len(fits) > 1:
        raise BacklineError(
            f"{len(fits)} runs are unfinished: {', '.join(fits)}",
            hosts=[host for run in fits for host in runs[run]],
            state="nothing was changed",
            hint=f"name the one you mean: --run {fits[0]}",
        )
    return _found(fits[0], statuses)


def _found(run: str, statuses: Mapping[str, Mapping[str, Any]]) -> Found:
    known = {
        host: status
        for host, status in statuses.items()
        if status.get("run") and status["run"]["run"] == run
    }
    parts = {host: status["run"]["plan"] for host, status in known.items()}
    events = {
        host: {note.get("event") for note in status["run"].get("notes") or ()}
        for host, status in known.items()
    }
    endings = {status["run"].get("ended") for status in known.values()}
    plan = plans.from_parts(parts)
    first = next(iter(parts.values()))
    return Found(
        run=run,
        plan=plan,
        fences={
            host: int(statuses[host]["fence"])
            for host in unfold(str(first["hosts"]))
            if host in statuses
        },
        retreating=any(RETREAT in found for found in events.values())
        or bool(endings & {"old", "refused"}),
        left_out=tuple(host for host, found in events.items() if LEFT_OUT in found),
        complete=plan.digest == first["digest"],
        hosts=str(first["hosts"]),
        strangers={
            host: _serves(statuses[host], plan.release)
            for host in unfold(str(first["hosts"]))
            if host in statuses and host not in known
        },
    )


def _serves(status: Mapping[str, Any], release: str) -> bool:
    return any(process["live"] == release for process in status["processes"].values())


def missing(found: Found, errors: Mapping[str, HostError]) -> dict[str, HostError]:
    """Hosts of the run without which it must go on, and why: `errors` of those that do not answer,
    and those that it never reached. They are not in its plan: no host keeps their part."""
    if found.complete:
        return {}
    away = {host: errors[host] for host in unfold(found.hosts) if host in errors}
    strange = {
        host: HostError(host, f"knows nothing of run {found.run}, or no more", code=STRANGER)
        for host, serves in found.strangers.items()
        if not serves
    }
    return {**away, **strange}


def refuse_back(found: Found, statuses: Mapping[str, Mapping[str, Any]]) -> None:
    """A run that some hosts have called finished is not taken back host by host."""
    done = [
        host
        for host, status in statuses.items()
        if (status.get("run") or {}).get("run") == found.run and status["run"]["ended"] == "new"
    ] + [host for host, serves in found.strangers.items() if serves]
    if done:
        raise BacklineError(
            f"run {found.run} has ended well on {', '.join(done)}",
            hosts=done,
            state="nothing was changed",
            hint="fab deploy.resume completes it; fab rollback goes back everywhere",
            exit_code=Exit.GUARD_REFUSED,
        )


def require_returned(found: Found, statuses: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises BacklineError unless a run that has ended by itself left its hosts what they had: 6 when
    they have its release, 3 when it cannot be said of all."""
    runs = {host: status.get("run") or {} for host, status in statuses.items()}
    endings = {host: run["ended"] for host, run in runs.items() if run.get("run") == found.run}
    if endings and set(endings.values()) == {"new"}:
        raise BacklineError(
            f"run {found.run} had ended with the new release before it heard of this",
            hosts=endings,
            state="nothing was taken back",
            hint="fab rollback goes back everywhere",
            exit_code=Exit.GUARD_REFUSED,
        )
    refuse_back(found, statuses)
    away = [host for host in found.plan.hosts if endings.get(host) not in ("old", "refused")]
    if away:
        raise BacklineError(
            f"run {found.run} has ended, and not all of its hosts say that they have what they had",
            hosts=away,
            hint="fab status shows the fleet",
            exit_code=Exit.MIXED,
        )


def moves(found: Found, statuses: Mapping[str, Mapping[str, Any]], back: bool) -> list[Move]:
    """What becomes of every process of the run, in the order of its plan, when it goes on or `back`."""
    plan, made = found.plan, []
    for step in plan.steps:
        stays = back or step.host in found.left_out
        to = step.live if stays else None if step.ends else plan.release
        process = statuses.get(step.host, {}).get("processes", {}).get(step.process) or {}
        made.append(Move(step.host, step.process, process.get("live"), to))
    return made


def as_event(
    found: Found,
    how: str,
    made: Sequence[Move],
    away: Mapping[str, HostError],
    holder: Holder | None,
    plan: Mapping[str, Any],
) -> Event:
    """A takeover that is only shown: the run's `plan` as programs read it, and what is left of it."""
    name, seconds = holder or (None, None)
    data = {
        **plan,
        "how": how,
        "holder": name,
        "expires_in": seconds,
        "moves": [asdict(move) for move in made],
        "missing": list(away),
    }
    return Event("plan", release=found.plan.release, data=data)
