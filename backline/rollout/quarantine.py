"""Hosts that a run leaves behind: they serve nobody, every other host remembers them, and
`fab deploy.catchup` brings them up before they may serve again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backline.rollout.crew import Ask, Crew, Job, Settled
from backline.rollout.events import Event
from backline.rollout.plan import Plan
from backline.rollout.reach import Reach
from backline.transport.port import HostError

NAMED = "named by the operator"
BALANCE_SECONDS = 15.0
NO_SERVER = "unknown_server"


class Quarantine:
    """The quarantine of one run. `balancers` are the hosts that send listeners to others."""

    def __init__(self, plan: Plan, reach: Reach, crew: Crew, balancers: Sequence[str]) -> None:
        self.plan, self.reach, self.crew = plan, reach, crew
        self.balancers = tuple(balancers)

    def impose(
        self, out: Mapping[str, HostError], here: Sequence[str], already: Iterable[str]
    ) -> dict[str, HostError]:
        """Puts the hosts that failed, and those that the operator left out, into quarantine.

        `here` are the hosts that remember them, `already` those that are in it. Returns those that
        may still serve, and why.
        """
        reasons = {host: error.message for host, error in out.items()}
        reasons |= {host: NAMED for host in self.plan.left_out if host not in {*already}}
        self.reach.lease.missed.update(host for host in reasons if host not in self.plan.by_host)
        if not reasons or self.plan.action != "deploy":
            return {}
        reach = self.reach
        found = entries(self.plan, reach.lease.run.id, reasons, reach.clock.time())
        reach.report(Event("quarantine", data={"hosts": found}))
        for host, error in self._errors({h: remember(h, found, reach) for h in here}).items():
            reach.warn(error, f"{host} does not know who is in quarantine: ")
        kept_out = self._balance("out", list(reasons))
        loose = self._errors({host: confine(self.plan, host, reach) for host in reasons})
        return {
            host: error
            for host, error in loose.items()
            if not (host in kept_out and self._only_serves_listeners(host))
        }

    def lift(self, here: Sequence[str]) -> None:
        """Hosts that were brought up serve again, and all others forget that they were in it.

        Raises HostError when one of them cannot be let in.
        """
        freed, reach = self.plan.freed, self.reach
        if not freed:
            return
        fields = {"action": "off"}
        jobs = {host: reach.only(reach.change(host, "drain", fields)) for host in freed}
        for error in self._errors(jobs).values():
            raise error
        self._balance("in", freed)
        for error in self._errors({h: forget(h, freed, reach) for h in here}).values():
            reach.warn(error, "still has it in quarantine: ")

    def _only_serves_listeners(self, host: str) -> bool:
        """True where the balancers alone decide whether a host works."""
        return all(step.kind == "http" for step in self.plan.by_host.get(host, ()))

    def _balance(self, action: str, servers: Iterable[str]) -> set[str]:
        """Tells every balancer; returns the servers about which all of them did as they were told."""
        jobs = {
            (balancer, server): self._tell(balancer, action, server)
            for balancer in self.balancers
            for server in servers
        }
        outcomes = self.crew.run({" ".join(pair): job for pair, job in jobs.items()})
        told = {pair: outcomes[" ".join(pair)] for pair in jobs}
        for outcome in told.values():
            if outcome.error:
                self.reach.warn(outcome.error, f"the balancer was not told `{action}`: ")
        sure = {pair[1] for pair, outcome in told.items() if outcome.value}
        return sure - {pair[1] for pair, outcome in told.items() if not outcome.value}

    def _tell(self, balancer: str, action: str, server: str) -> Job:
        """True when it did; False when it does not know the server, so nobody comes that way."""
        run = self.reach.lease.run
        fields = {"action": action, "server": server, "run": run.id, "actor": run.actor}
        fleet = self.reach.fleet
        try:
            yield Ask(
                balancer,
                lambda: fleet.call(balancer, "balance", fields, deadline=BALANCE_SECONDS),
                BALANCE_SECONDS,
            )
        except HostError as error:
            if error.code != NO_SERVER:
                raise
            return False
        return True

    def _errors(self, jobs: Mapping[str, Job]) -> dict[str, HostError]:
        outcomes = self.crew.run(jobs)
        return {name: o.error for name, o in outcomes.items() if o.error is not None}


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
