"""Who may leave the service, and who may come back: decided before a flag is raised."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backline.errors import BacklineError, Exit
from backline.operations.drain.look import SERVES, Process, View
from backline.transport.port import Answer

Balancers = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Each balancer's {backend: {server: state}}."""


@dataclass(frozen=True)
class Plan:
    """What will be done. `fences`: of the hosts whose lease keeps deploys and other drains away.

    `flag`: False where only pools stop or start, and the host is not drained otherwise.
    """

    app: str
    hosts: tuple[str, ...]
    balancers: tuple[str, ...]
    processes: tuple[Process, ...]
    fences: dict[str, int]
    flag: bool = True

    def of(self, host: str) -> list[Process]:
        """A host's live processes."""
        return [process for process in self.processes if process.host == host]

    def as_json(self, action: str) -> dict[str, Any]:
        """The NDJSON line of the plan."""
        return {
            "schema_version": 1,
            "event": "plan",
            "action": action,
            "app": self.app,
            "hosts": self.hosts,
            "balancers": self.balancers,
            "processes": [vars(process) for process in self.processes],
        }


def drain(view: View, hosts: Iterable[str], serving: Collection[str], outage: bool) -> Plan:
    """Who leaves. Raises BacklineError (6) when nobody would be left to serve, unless `outage`.

    `serving`: the hosts that listeners are sent to.
    """
    leaving = tuple(hosts)
    if not outage:
        guard(view.balancers, leaving, serving, view.statuses)
    return _plan(view, leaving, serving)


def guard(
    balancers: Balancers,
    leaving: Collection[str],
    serving: Collection[str],
    statuses: Mapping[str, Answer],
) -> None:
    """Raises BacklineError (6) unless each balancer has another host that is up.

    Where no balancer is asked, another host that serves has to answer, and not be drained.
    """
    lonely = [
        f"{balancer} has nobody else who is up in its backend {backend}"
        for balancer, backends in balancers.items()
        for backend, servers in backends.items()
        if _last(servers, leaving)
    ]
    there = {host: "up" for host in serving if host in statuses and not statuses[host]["drained"]}
    if not balancers and _last(there, leaving):
        lonely = ["no other host serves listeners"]
    if lonely:
        raise BacklineError(
            "; ".join(lonely),
            hosts=leaving,
            state="nothing was changed",
            hint="bring another host back first (fab undrain), or go on without any: --outage",
            exit_code=Exit.GUARD_REFUSED,
        )


def _last(servers: Mapping[str, str], leaving: Collection[str]) -> bool:
    """True when one of those who leave serves, and none of those who stay does."""
    goes = any(servers[name] in SERVES for name in servers if name in leaving)
    return goes and not any(servers[name] in SERVES for name in servers if name not in leaving)


def undrain(view: View, hosts: Iterable[str], serving: Collection[str]) -> Plan:
    """Who comes back. Raises BacklineError (6) for a host in quarantine."""
    coming = tuple(hosts)
    refuse_quarantined(view, coming)
    return _plan(view, coming, serving)


def refuse_quarantined(view: View, coming: Collection[str]) -> None:
    """Raises BacklineError (6) for a host in quarantine: the others know of it, it may not."""
    known = _quarantined(view.statuses.values())
    away = {host: str(known[host].get("why")) for host in coming if host in known}
    kept = {
        name: f"{balancer} was told to keep it out"
        for balancer, names in view.kept_out.items()
        for name in names
        if name in coming
    }
    if away or kept:
        found = {**kept, **away}
        raise BacklineError(
            "; ".join(f"{host} is in quarantine: {why}" for host, why in found.items()),
            hosts=found,
            state="nothing was changed",
            hint="fab deploy.catchup brings it to the release of the others, and back",
            exit_code=Exit.GUARD_REFUSED,
        )


def pools(view: View, hosts: Iterable[str], name: str) -> Plan:
    """Pools alone, all or those called `name`. Raises BacklineError when a host has none such."""
    chosen = tuple(hosts)
    whole = _plan(view, chosen, ())
    mine = [p for p in whole.processes if p.kind != "http" and name in ("", p.name)]
    lacking = [host for host in chosen if host not in {process.host for process in mine}]
    if lacking:
        known = sorted({p.name for p in whole.processes if p.kind != "http"})
        raise BacklineError(
            f"no {f'pool {name}' if name else 'pool'} is live on {', '.join(lacking)}",
            hosts=lacking,
            state="nothing was changed",
            hint=f"pools of these hosts: {', '.join(known) or 'none'}",
        )
    return replace(whole, processes=tuple(mine), flag=False)


def _plan(view: View, hosts: tuple[str, ...], serving: Collection[str]) -> Plan:
    """With a host that serves listeners all that do are guarded: two drains at once could take them all."""
    concerned = set(hosts) & set(serving)
    guarded = [host for host in view.statuses if host in hosts or (concerned and host in serving)]
    return Plan(
        app=view.app,
        hosts=hosts,
        balancers=tuple(view.balancers) if concerned else (),
        processes=tuple(process for host in hosts for process in view.processes(host)),
        fences={host: int(view.statuses[host]["fence"]) for host in guarded},
    )


def _quarantined(statuses: Iterable[Answer]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for status in statuses:
        found |= status.get("quarantine") or {}
    return found
