"""Hosts that a run leaves behind: they serve nobody, every other host remembers them, and
`fab deploy.catchup` brings them up before they may serve again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backline.rollout.crew import Job, Settled
from backline.rollout.plan import Plan
from backline.rollout.reach import Reach


def entries(plan: Plan, run: str, out: Mapping[str, str], now: float) -> dict[str, dict[str, Any]]:
    """What the other hosts keep: {host: {why, release, run, at}}. `out`: the reason for each."""
    return {
        host: {"why": why[:300], "release": plan.release, "run": run, "at": round(now)}
        for host, why in out.items()
    }


def confine(plan: Plan, host: str, reach: Reach) -> Job:
    """Out of the balancers, also after a reboot; pools and singletons take nothing new."""
    yield Settled(host)
    yield from reach.lease.again(host)
    yield reach.change(host, "drain", {"action": "on", "persist": True})
    for step in plan.by_host.get(host, ()):
        if step.kind != "http" and step.live is not None:
            fields = {"process": step.process, "release": step.live, "force": True, "wait": False}
            yield reach.change(host, "stop", fields)


def remember(host: str, found: Mapping[str, Any], reach: Reach) -> Job:
    """Tells a host of others."""
    yield reach.change(host, "quarantine", {"action": "add", "hosts": dict(found)})


def forget(host: str, names: Iterable[str], reach: Reach) -> Job:
    """These are back."""
    hosts: dict[str, dict[str, Any]] = {name: {} for name in names}
    yield reach.change(host, "quarantine", {"action": "remove", "hosts": hosts})


def known(statuses: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """All quarantined hosts that any of these hosts knows of."""
    found: dict[str, dict[str, Any]] = {}
    for status in statuses:
        for host, entry in (status.get("quarantine") or {}).items():
            if entry.get("at", 0) >= found.get(host, {}).get("at", 0):
                found[host] = dict(entry)
    return found
