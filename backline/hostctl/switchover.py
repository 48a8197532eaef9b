"""A planned switchover as its leader carries it out: one process, so that no network between
controller and host is part of the time for which clients wait.

pause → Patroni hands over → PgBouncer here follows who leads → resume. Whatever fails, clients go
on: to who leads then. Before the first step a timer is set that does the same, for the case that
this process is killed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .cluster import GOOD, SYNC, Cluster, Patroni, Settings
from .errors import HostctlError, Refused
from .host import Host
from .pgbouncer import PgBouncer

PAUSE_WITHIN = 3.0
HAND_OVER_WITHIN = 20.0
EVERY = 0.1
LAG_MOST = 1024 * 1024
"""Bytes that the candidate may be behind: what it still has to get while everybody waits."""


class Took(NamedTuple):
    """How it went, in seconds: until nothing ran any more, until the other one wrote, in all."""

    leader: str
    paused: float
    handed_over: float
    waited: float


def refuse(cluster: Cluster, settings: Settings, candidate: str, synchronous: bool) -> None:
    """Raises `Refused` for whatever makes a switchover to `candidate` a risk. Nothing is touched."""
    leader = cluster.leader
    if leader is None:
        raise _refused("no_leader", "nobody leads", "fab db.failover is for that")
    if leader["name"] != settings.name:
        raise _refused("not_leader", f"{leader['name']} leads, not {settings.name}", "ask it")
    if cluster.paused:
        raise _refused(
            "cluster_paused",
            f"{settings.scope} is in maintenance: Patroni was told to keep its hands off",
            "patronictl resume, when whoever paused it is done",
        )
    if cluster.scheduled:
        raise _refused("scheduled", "another switchover is scheduled", "patronictl flush")
    missing = sorted(set(settings.members) - {str(m.get("name")) for m in cluster.members})
    missing += [str(m["name"]) for m in cluster.members if m.get("state") not in GOOD]
    if missing:
        raise _refused(
            "member_missing",
            f"{', '.join(missing)}: not running, and with one host less there would be no spare",
            "bring it back first: fab db.status",
        )
    chosen = cluster.member(candidate)
    if chosen is None or candidate == settings.name:
        raise _refused("no_candidate", f"{candidate} is no standby of {settings.scope}", "")
    if synchronous and chosen.get("role") not in SYNC:
        standbys = ", ".join(str(m["name"]) for m in cluster.members if m.get("role") in SYNC)
        raise _refused(
            "not_synchronous",
            f"{candidate} is not the synchronous standby ({standbys or 'there is none just now'})",
            "take that one" if standbys else "wait until there is one: fab db.status",
        )
    lag = chosen.get("lag")
    if not isinstance(lag, int) or lag > LAG_MOST:
        raise _refused(
            "lagging", f"{candidate} is {lag} bytes behind", f"wait until it is below {LAG_MOST}"
        )


def _refused(code: str, message: str, hint: str) -> Refused:
    return Refused(code, f"{message}; nothing was changed", hint)


def carry_out(
    host: Host, patroni: Patroni, bouncer: PgBouncer, candidate: str, pause_within: float
) -> Took:
    """Hands over to `candidate`. The caller has refused what is a risk, and set the timer.

    Raises `HostctlError`: not_paused (nothing has happened), not_handed_over or pgbouncer_failed, whose
    message says who leads and that clients go on.
    """
    began = host.boottime()
    bouncer.pause(pause_within)
    paused = host.boottime() - began
    try:
        leader = _hand_over(host, patroni, candidate)
        handed_over = host.boottime() - began - paused
        bouncer.follow(patroni.settings.members[leader])
    except BaseException as error:
        _go_on(patroni, bouncer, error)
        raise
    _resume(patroni, bouncer)
    return Took(leader, paused, handed_over, host.boottime() - began)


def _hand_over(host: Host, patroni: Patroni, candidate: str) -> str:
    """Who leads, once it takes writes. Raises `HostctlError` (not_handed_over)."""
    asked = _Asked(patroni, candidate)
    deadline = host.boottime() + HAND_OVER_WITHIN
    others = [name for name in patroni.settings.members if name != patroni.settings.name]
    order = sorted(others, key=lambda name: name != candidate)
    while host.boottime() < deadline:
        for name in order:
            if patroni.writes(name):
                return name
        if asked.said_no:
            raise HostctlError("not_handed_over", f"Patroni says: {asked.said}", "fab db.status")
        host.sleep(EVERY)
    raise HostctlError(
        "not_handed_over",
        f"nobody else takes writes after {HAND_OVER_WITHIN:g} s (Patroni: {asked.said or 'silent'})",
        "fab db.status; journalctl -u patroni on the members",
    )


class _Asked:
    """The request to Patroni, which answers seconds after the new leader writes: nobody waits for it."""

    def __init__(self, patroni: Patroni, candidate: str) -> None:
        import threading

        self.status, self.said = 0, ""
        self._patroni, self._candidate = patroni, candidate
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        mine = self._patroni.settings.name
        body = {"leader": mine, "candidate": self._candidate}
        try:
            status, said = self._patroni.post(mine, "/switchover", body, HAND_OVER_WITHIN + 5)
        except OSError as error:  # it may have heard all the same
            self.said = str(error)
            return
        self.said, self.status = " ".join(said.split())[:200], status

    @property
    def said_no(self) -> bool:
        return self.status >= 300


def _go_on(patroni: Patroni, bouncer: PgBouncer, error: BaseException) -> None:
    """Clients go on with who leads now, and the error tells who that is."""
    said = settle(patroni, bouncer)
    if isinstance(error, HostctlError):
        error.message += f"; {said}"


def settle(patroni: Patroni, bouncer: PgBouncer) -> str:
    """Turns PgBouncer to who leads and resumes it, whatever else fails. Returns what came of it."""
    settings = patroni.settings
    leader = _writer(patroni)
    said = f"{leader} leads" if leader else "nobody takes writes"
    try:
        if leader and leader != settings.name:
            bouncer.follow(settings.members[leader])
        else:
            bouncer.home()
    except HostctlError as error:
        said += f", but {error.message}"
    try:
        bouncer.resume()
    except HostctlError as error:
        return f"{said}; CLIENTS WAIT: {error.message}"
    return f"{said}, nobody waits any more"


def _writer(patroni: Patroni) -> str | None:
    names = [patroni.settings.name, *patroni.settings.members]
    return next((name for name in names if patroni.writes(name)), None)


def _resume(patroni: Patroni, bouncer: PgBouncer) -> None:
    try:
        bouncer.resume()
    except HostctlError:
        bouncer.resume()  # once more: there is nothing else to do, and everybody waits


def as_json(took: Took) -> dict[str, Any]:
    return {
        "leader": took.leader,
        "seconds": {
            "paused": round(took.paused, 3),
            "handed_over": round(took.handed_over, 3),
            "waited": round(took.waited, 3),
        },
    }
