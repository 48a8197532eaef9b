"""More or fewer jobs at once: kept on each host, and taken up by its pool, one host after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.operations.workers.pools import Pool, View
from backline.rollout.crew import Crew, Job
from backline.rollout.events import Event, Report
from backline.rollout.lease import Lease, Run
from backline.rollout.reach import Reach
from backline.transport.port import Clock, Fleet

START_SECONDS = 60.0
CHECK = {"passes": 3, "interval": 1.0}


@dataclass(frozen=True)
class Plan:
    """`pools` will have `children` each; None: what the inventory says."""

    app: str
    process: str
    children: int | None
    pools: tuple[Pool, ...]

    def wanted(self, pool: Pool) -> int:
        """How many jobs at once this pool will do."""
        return pool.inventory if self.children is None else self.children

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "plan",
            "action": "scale",
            "app": self.app,
            "process": self.process,
            "children": self.children,
            "hosts": {pool.host: [pool.children, self.wanted(pool)] for pool in self.pools},
        }


def plan(view: View, app: str, process: str, hosts: Iterable[str], children: int | None) -> Plan:
    """The pools of `hosts` that change. Raises BacklineError for an unknown pool or a silent host."""
    chosen = list(hosts)
    silent = {host: why for host, why in view.silent.items() if host in chosen}
    if silent:
        raise BacklineError(
            wording.each(silent.items()),
            hosts=silent,
            state="nothing was changed",
            hint="leave them out with --on, or bring them up first",
        )
    mine = [pool for pool in view.pools if pool.process == process and pool.host in chosen]
    if not mine:
        known = sorted({pool.process for pool in view.pools})
        raise BacklineError(
            f"no pool {process} on {', '.join(chosen)}",
            state="nothing was changed",
            hint=f"pools: {', '.join(known) or 'none'}",
        )
    made = Plan(app, process, children, tuple(mine))
    # One that is behind: a scale was cut off after keeping the number, before the pool was started anew.
    changed = [pool for pool in mine if pool.behind or pool.children != made.wanted(pool)]
    return Plan(app, process, children, tuple(changed))


def carry_out(
    fleet: Fleet,
    plan: Plan,
    fences: Mapping[str, int],
    run: Run,
    clock: Clock,
    report: Report,
    timeout: float,
) -> None:
    """Host by host: told, its pool ends its jobs, starts anew and is healthy. Stops at the first that is not.

    Raises BacklineError when the lease is held, HostError for the host that failed.
    """
    crew = Crew(fleet.hands(), clock)
    lease = Lease(fleet, run, report)
    reach = Reach(fleet, lease, clock, report)
    try:
        for error in lease.take(crew, fences).values():
            raise error
        for host in fences:
            crew.background(f"lease of {host}", lease.keep(host))
        for pool in plan.pools:
            outcome = crew.run({pool.host: _one(reach, plan, pool, timeout)})[pool.host]
            if outcome.error:
                raise outcome.error
    finally:
        crew.stop()
        lease.give_back(crew, None)


def _one(reach: Reach, plan: Plan, pool: Pool, timeout: float) -> Job:
    what = {"process": pool.process, "release": pool.release}
    fields = {"process": pool.process, "children": plan.children}
    yield from reach.told(reach.change(pool.host, "scale", fields), "scale", pool.process)
    if pool.rests:
        text = f"{pool.process} is {pool.active}: its next start takes it up"
        reach.report(Event("warning", pool.host, text=text))
        return
    stop = {**what, "force": True, "deadline": timeout}
    ask = reach.change(pool.host, "stop", stop, timeout, idle=True)
    yield from reach.told(ask, "stop", pool.process, pool.release)
    ask = reach.change(pool.host, "start", {**what, "deadline": START_SECONDS}, START_SECONDS)
    yield from reach.told(ask, "start", pool.process, pool.release)
    seen = {**what, **CHECK, "app": plan.app, "deadline": START_SECONDS}
    ask = reach.ask(pool.host, "check", seen, START_SECONDS)
    yield from reach.told(ask, "check", pool.process, pool.release)
