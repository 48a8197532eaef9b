"""`hostctl database`: this host as a member of the database cluster.

It belongs to no app and no run: no lease, and in journald only. Patroni and etcd keep two operators
from leading two members; this keeps clients from seeing an error.
"""

from __future__ import annotations

from typing import Any

from . import cluster, files, record, switchover, undo
from .cluster import GOOD, SYNC, Cluster, Patroni, Settings
from .errors import HostctlError, Refused
from .host import Host
from .names import Request
from .pgbouncer import PgBouncer

LOCK = "/var/lib/backline/database.lock"
ACTIONS = (
    *("status", "home", "switchover", "failover", "restart"),
    *("query", "signal", "vacuum"),
)
LINGER, LINGER_MOST = 180.0, 1800.0
HOME_AFTER = 300.0
FAILED_OVER_WITHIN = 40.0
RESTARTED_WITHIN = 120.0
EVERY = 0.5


class Member:
    """This host's settings, its Patroni and its PgBouncer."""

    def __init__(self, host: Host) -> None:
        self.settings = cluster.load(host)
        self.patroni = Patroni(host, self.settings)
        self.bouncer = PgBouncer(host, self.settings)


def database(host: Host, request: Request) -> dict[str, object]:
    """The verb `database`. Changing actions return {already} or what they did.

    Raises `UsageError`, `Refused`, or `HostctlError`: no_database, bad_settings, patroni_silent,
    pgbouncer_failed, not_paused, not_handed_over, not_failed_over, not_restarted, busy.
    """
    action = request.choice("action", ACTIONS)
    member = Member(host)
    if action == "status":
        return _status(host, member)
    if action == "query":
        from . import query

        return query.run(host, member.settings, request)
    if action in ("signal", "vacuum"):
        from . import superuser

        return {"signal": superuser.signal, "vacuum": superuser.vacuum}[action](
            host, member.settings, request
        )
    work = {
        "home": _home,
        "switchover": _switchover,
        "failover": _failover,
        "restart": _restart,
    }[action]
    with files.locked(host, host.path(LOCK)):
        return work(host, request, member)


def undo_by_itself(host: Host, request: Request) -> str:
    """What the timer does: nobody waits, and PgBouncer is turned to where it belongs.

    Those who waited go on with who leads by now; home comes later, when proxies have let go too.
    """
    member = Member(host)
    said = ""
    if member.bouncer.paused():
        with files.locked(host, host.path(LOCK)):
            said = switchover.settle(member.patroni, member.bouncer) + "; "
            record.announce(host, request, "done", action="undo", outcome=said)
        host.sleep(HOME_AFTER)
    with files.locked(host, host.path(LOCK)):
        # A switchover that began meanwhile has a timer of its own.
        if undo.pending(host, "database"):
            return said + "another switchover is at work"
        said += _come_home(member)
        record.announce(host, request, "done", action="undo", outcome=said)
    return said


def _come_home(member: Member) -> str:
    if member.bouncer.following() is None:
        return "it was at home"
    member.bouncer.home()
    return "PgBouncer connects to this host's PostgreSQL again"


def _status(host: Host, member: Member) -> dict[str, object]:
    settings, patroni = member.settings, member.patroni
    answer: dict[str, object] = {
        "scope": settings.scope,
        "name": settings.name,
        "peers": sorted(settings.members),
        "etcd": {name: patroni.etcd(name) for name in sorted(settings.members)},
        "pgbouncer": _bouncer(member),
        "undone_by_itself": undo.pending(host, "database"),
    }
    try:
        seen = patroni.cluster()
    except HostctlError as error:
        return {**answer, "members": [], "leader": None, "trouble": error.message}
    leader = seen.leader
    return {
        **answer,
        "members": list(seen.members),
        "leader": leader["name"] if leader else None,
        "paused": seen.paused,
        "synchronous": _synchronous(patroni),
        "trouble": None,
    }


def _synchronous(patroni: Patroni) -> bool:
    return patroni.config().get("synchronous_mode") not in (None, False, "off")


def _bouncer(member: Member) -> dict[str, Any]:
    try:
        clients, following = member.bouncer.clients(), member.bouncer.following()
    except HostctlError as error:
        return {"trouble": error.message}
    paused = member.bouncer.paused()
    return {"trouble": None, "paused": paused, "following": following, **clients}


def _home(host: Host, request: Request, member: Member) -> dict[str, object]:
    already = member.bouncer.following() is None
    if not already:
        record.announce(host, request, "done", action="home")
        member.bouncer.home()
    if not member.bouncer.paused():
        undo.cancel(host, "database")
    return {"already": already}


def _switchover(host: Host, request: Request, member: Member) -> dict[str, object]:
    candidate = request.server("candidate")
    within = request.seconds("within", switchover.PAUSE_WITHIN, minimum=0.5, maximum=30)
    linger = request.seconds("linger", LINGER, minimum=10, maximum=LINGER_MOST)
    seen = member.patroni.cluster()
    switchover.refuse(seen, member.settings, candidate, _synchronous(member.patroni))
    undo.later(host, "database", within + switchover.HAND_OVER_WITHIN + 15)
    record.announce(host, request, "begin", action="switchover", candidate=candidate)
    try:
        took = switchover.carry_out(host, member.patroni, member.bouncer, candidate, within)
    except HostctlError as error:
        record.announce(host, request, "failed", action="switchover", error=error.code)
        raise
    undo.later(host, "database", linger)
    found = switchover.as_json(took)
    record.announce(host, request, "done", action="switchover", leader=took.leader)
    return found


def _failover(host: Host, request: Request, member: Member) -> dict[str, object]:
    """Any member may be asked. Raises `Refused` while somebody leads and takes writes."""
    candidate = request.server("candidate")
    seen = member.patroni.cluster()
    _refuse_failover(seen, member, candidate, request.boolean("accept_loss"))
    record.announce(host, request, "begin", action="failover", candidate=candidate)
    began = host.boottime()
    try:
        status, said = member.patroni.post(
            member.settings.name, "/failover", {"candidate": candidate}, FAILED_OVER_WITHIN
        )
    except OSError as error:
        status, said = 0, str(error)
    while host.boottime() - began < FAILED_OVER_WITHIN:
        if member.patroni.writes(candidate):
            record.announce(host, request, "done", action="failover", leader=candidate)
            return {"leader": candidate, "seconds": round(host.boottime() - began, 3)}
        if status >= 300:
            break
        host.sleep(EVERY)
    raise HostctlError(
        "not_failed_over",
        f"{candidate} does not take writes; Patroni says: {' '.join(said.split())[:200] or 'nothing'}",
        "fab db.status; journalctl -u patroni on the members",
    )


def _refuse_failover(seen: Cluster, member: Member, candidate: str, accept_loss: bool) -> None:
    leader = seen.leader
    if leader is not None and member.patroni.writes(str(leader["name"])):
        raise Refused(
            "leader_lives",
            f"{leader['name']} leads and takes writes; nothing was changed",
            "a planned one loses nothing: fab db.switchover",
        )
    chosen = seen.member(candidate)
    if chosen is None or (leader is not None and leader["name"] == candidate):
        raise Refused("no_candidate", f"{candidate} is no standby; nothing was changed")
    if chosen.get("role") not in SYNC and not accept_loss:
        raise Refused(
            "not_synchronous",
            f"{candidate} is not the synchronous standby: it may lack commits that clients were told "
            "of; nothing was changed",
            "take the one that is, or say that a loss is accepted",
        )


def _restart(host: Host, request: Request, member: Member) -> dict[str, object]:
    """Patroni, and PostgreSQL with it. Raises `Refused` on the leader, and while a member is away; the only
    member is restarted when an outage is accepted."""
    settings = member.settings
    seen = member.patroni.cluster()
    alone = len(settings.members) == 1
    leader = seen.leader
    if leader is not None and leader["name"] == settings.name and not alone:
        raise Refused(
            "is_leader",
            f"{settings.name} leads: clients would see errors; nothing was changed",
            "hand over first: fab db.switchover",
        )
    if not alone:
        _refuse_restart(seen, settings)
    elif not request.boolean("outage"):
        raise Refused(
            "is_alone",
            f"{settings.name} is the only member: writes would fail meanwhile; nothing was changed",
            "say that an outage is accepted",
        )
    record.announce(host, request, "begin", action="restart")
    began = host.boottime()
    ended = host.run(["systemctl", "restart", "patroni.service"], timeout=RESTARTED_WITHIN + 30)
    if ended.status != 0:
        raise _not_restarted(settings, " ".join(ended.err.split())[:300])
    while not _back(member):
        if host.boottime() - began > RESTARTED_WITHIN:
            raise _not_restarted(settings, f"not in step after {RESTARTED_WITHIN:g} s")
        host.sleep(EVERY)
    record.announce(host, request, "done", action="restart")
    return {"seconds": round(host.boottime() - began, 3)}


def _refuse_restart(seen: Cluster, settings: Settings) -> None:
    others = [m for m in seen.members if m["name"] != settings.name]
    away = sorted(set(settings.members) - {m["name"] for m in others} - {settings.name})
    away += [str(m["name"]) for m in others if m.get("state") not in GOOD]
    if away or seen.leader is None:
        raise Refused(
            "member_missing",
            f"{', '.join(away) or 'a leader'}: missing, and with this one there would be two less; "
            "nothing was changed",
            "bring it back first: fab db.status",
        )


def _back(member: Member) -> bool:
    """True when this member is in its place: streaming without lag, or leading."""
    try:
        mine = member.patroni.cluster().member(member.settings.name)
    except HostctlError:
        return False
    if mine is None:
        return False
    if mine.get("role") in cluster.LEADERS:
        return mine.get("state") == "running"
    return mine.get("state") == "streaming" and mine.get("lag") == 0


def _not_restarted(settings: Settings, reason: str) -> HostctlError:
    return HostctlError(
        "not_restarted",
        f"{settings.name} did not come back: {reason}; the others go on without it",
        "journalctl -u patroni on the host; restart no other member meanwhile",
    )
