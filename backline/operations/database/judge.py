"""Who may take over, and why not: decided before anybody is asked, and before anything is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backline.errors import BacklineError, Exit
from backline.operations.database.look import GOOD, SYNC, View

LAG_MOST = 1024 * 1024
PATIENCE = 3.0
STATUS = "fab db.status"


@dataclass(frozen=True)
class Plan:
    """A planned switchover. `proxies`: the app hosts whose connections are kept; `linger`: seconds that
    these get to end by themselves, `patience`: that running transactions get, while all others wait."""

    scope: str
    leader: str
    candidate: str
    leader_host: str
    proxies: tuple[str, ...]
    linger: float
    patience: float = PATIENCE

    @property
    def hosts(self) -> list[str]:
        """Every host that this touches."""
        return list(dict.fromkeys([self.leader_host, self.candidate, *self.proxies]))


def plan(
    view: View, to: str, proxies: Sequence[str], linger: float, patience: float = PATIENCE
) -> Plan:
    """The switchover to `to`, or to the best standby. Raises BacklineError (6) for whatever is a risk."""
    leader = view.leader
    if leader is None:
        raise _refused("nobody leads", "is the leader dead? fab db.failover")
    if view.paused:
        raise _refused(f"{view.scope} is in maintenance", "patronictl resume, on a database host")
    ill = [m.name for m in view.members if m.state not in GOOD or m.host is None]
    if ill:
        raise _refused(
            f"{', '.join(ill)}: missing or not running; with one less there is no spare",
            STATUS,
            ill,
        )
    if not view.quorum:
        raise _refused("etcd has no majority: nobody could be elected", STATUS)
    busy = [m.name for m in view.members if m.pgbouncer.get("paused")]
    busy += [m.name for m in view.members if m.pgbouncer.get("following")]
    if busy:
        raise _refused(
            f"an earlier switchover has not come to its end on {', '.join(busy)}",
            "it does so by itself within minutes; fab db.status",
            busy,
        )
    candidate = _candidate(view, to)
    host = view.host(leader)
    return Plan(view.scope, leader, candidate, host, tuple(proxies), linger, patience)


def _candidate(view: View, to: str) -> str:
    if not view.standbys:
        raise _refused("there is no other member that could take over", STATUS)
    chosen = view.member(to) if to else view.standbys[0]
    if chosen is None or chosen not in view.standbys:
        names = ", ".join(member.name for member in view.standbys)
        raise _refused(f"{to} is no standby of {view.scope}", f"standbys: {names}")
    if view.synchronous and chosen.role not in SYNC:
        sync = [member.name for member in view.standbys if member.role in SYNC]
        raise _refused(
            f"{chosen.name} is not the synchronous standby"
            + (f", {', '.join(sync)} is" if sync else ": there is none just now"),
            "leave --to out" if sync else "wait until there is one: " + STATUS,
        )
    if chosen.lag is None or chosen.lag > LAG_MOST:
        behind = "nobody knows how far" if chosen.lag is None else f"{chosen.lag} bytes"
        raise _refused(f"{chosen.name} is behind: {behind}", f"wait for it: {STATUS}")
    return chosen.name


def failover(view: View, to: str, accept_loss: bool) -> tuple[str, str]:
    """(who is to lead, the host to ask). Raises BacklineError (6)."""
    leader = view.member(view.leader) if view.leader else None
    if leader is not None and leader.state == "running" and leader.host is not None:
        raise _refused(
            f"{leader.name} leads and its host answers",
            "a planned one loses nothing: fab db.switchover",
        )
    standbys = [m for m in view.survivors if m.name != view.leader]
    if not standbys:
        raise _refused("no standby that runs can be reached", "docs/how-to/restore.md")
    chosen = next((m for m in standbys if m.name == to), None) if to else standbys[0]
    if chosen is None or chosen.host is None:
        raise _refused(f"{to} is no standby that runs", f"standbys: {_names(standbys)}")
    if chosen.role not in SYNC and not accept_loss:
        raise _refused(
            f"{chosen.name} is not the synchronous standby: it may lack commits that clients were told of",
            "the one that is, or --accept-loss",
        )
    return chosen.name, chosen.host


def _names(members: Sequence[object]) -> str:
    return ", ".join(str(getattr(member, "name", member)) for member in members)


def _refused(message: str, hint: str, hosts: Sequence[str] = ()) -> BacklineError:
    return BacklineError(
        message,
        hosts=hosts,
        state="nothing was changed",
        hint=hint,
        exit_code=Exit.GUARD_REFUSED,
    )
