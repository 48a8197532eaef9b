"""Contract migrations: what no release needs any more is taken away, once, when an operator says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backline.errors import BacklineError, Exit
from backline.rollout.crew import Crew
from backline.rollout.events import Event, Report
from backline.rollout.lease import Lease, Run
from backline.rollout.reach import Reach
from backline.transport.port import Clock, Fleet

SECONDS = 3600.0


def require_live(statuses: Mapping[str, Mapping[str, Any]], release: str) -> None:
    """Refuses while anything else than `release` runs anywhere, warm processes included."""
    others = {
        host: sorted(found)
        for host, status in statuses.items()
        if (found := _running(status) - {release})
    }
    if others:
        raise BacklineError(
            "; ".join(f"{host} still runs {', '.join(found)}" for host, found in others.items()),
            hosts=others,
            state="nothing was changed",
            hint="old processes stay warm for a while after a deploy: try again later",
            exit_code=Exit.GUARD_REFUSED,
        )


def _running(status: Mapping[str, Any]) -> set[str]:
    found = set()
    for process in status["processes"].values():
        found.add(process["live"])
        found |= {entry["release"] for entry in process["instances"]}
    return {release for release in found if release}


def carry_out(
    fleet: Fleet,
    release: str,
    hosts: Sequence[str],
    fences: Mapping[str, int],
    run: Run,
    clock: Clock,
    report: Report,
) -> None:
    """Runs the contract migrations on the first host, and lets every host remember that they ran.

    Raises BacklineError when the lease is held, or a host fails: with what can be gone back to then.
    """
    crew = Crew(fleet.hands(), clock)
    lease = Lease(fleet, run, report)
    reach = Reach(fleet, lease, clock, report)
    again = f"try again: fab deploy.contract --release {release}"
    try:
        for error in lease.take(crew, {host: fences[host] for host in hosts}).values():
            raise error.for_people("nothing was changed", again)
        for host in hosts:
            crew.background(f"lease of {host}", lease.keep(host))
        # Remembered first: killed in between, a rollback across it is refused, not allowed.
        fields: dict[str, Any] = {"release": release, "state": "contracted"}
        marks = {host: reach.only(reach.change(host, "mark", fields)) for host in hosts}
        for outcome in crew.run(marks).values():
            if outcome.error:
                state = "no migration has run; hosts that heard of it go back to no older release"
                raise outcome.error.for_people(state, again)
        fields = {"release": release, "phase": "contract", "deadline": SECONDS}
        ask = reach.change(hosts[0], "migrate", fields, SECONDS)
        done = crew.run({hosts[0]: reach.patient(ask, "migrate", release)})[hosts[0]]
        if done.error:
            state = (
                f"all hosts run {release}; rollback to an older release is refused from now on, "
                "since some of the migrations may have run"
            )
            raise done.error.for_people(state, again)
        report(Event("done", release=release, text="contract migrations have run"))
    finally:
        crew.stop()
        lease.give_back(crew, None)
