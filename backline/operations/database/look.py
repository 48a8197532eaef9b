"""What the members of the database cluster say: who leads, who follows how closely, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backline.errors import BacklineError
from backline.transport.port import Answer, Fleet, HostError, Outcome, Unreachable

DEADLINE = 25.0
LEADERS = ("leader", "standby_leader")
SYNC = ("sync_standby", "quorum_standby")
GOOD = ("running", "streaming")
UNLED = "in archive recovery"
"""What Patroni calls a standby whose leader is gone: it looks for more in the archive."""


@dataclass(frozen=True)
class Member:
    """A member as Patroni lists it, and what its own host says. `lag` is in bytes, None for not known."""

    name: str
    host: str | None
    role: str
    state: str
    timeline: int | None
    lag: int | None
    pending_restart: bool
    etcd: str
    pgbouncer: Mapping[str, Any]
    error: str | None = None

    def as_json(self, scope: str) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "member",
            "scope": scope,
            "member": self.name,
            "host": self.host,
            "role": self.role,
            "state": self.state,
            "timeline": self.timeline,
            "lag": self.lag,
            "pending_restart": self.pending_restart,
            "etcd": self.etcd,
            "pgbouncer": self.pgbouncer,
            "error": self.error,
        }


@dataclass(frozen=True)
class View:
    """The cluster. `silent`: hosts that did not answer, and why."""

    scope: str
    members: tuple[Member, ...]
    leader: str | None
    synchronous: bool
    paused: bool
    silent: Mapping[str, str] = field(default_factory=dict)

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    def host(self, name: str) -> str:
        """The host of a member. Raises BacklineError when it does not answer."""
        found = self.member(name)
        if found is None or found.host is None:
            why = self.silent.get(name, "no host of the inventory says it is that member")
            raise BacklineError(
                f"{name} cannot be asked: {why}",
                hosts=[name],
                state="nothing was changed",
                hint="fab db.status",
            )
        return found.host

    @property
    def away(self) -> dict[str, str]:
        """Members whose host does not answer, and why."""
        return {one.name: self.silent.get(one.name, one.error) for one in self.members if one.error}

    @property
    def voters(self) -> int:
        """Members of etcd that are healthy."""
        return sum(member.etcd == "healthy" for member in self.members)

    @property
    def quorum(self) -> bool:
        """Whether etcd has a majority, without which nobody can be elected."""
        return self.voters > len(self.members) // 2

    @property
    def standbys(self) -> list[Member]:
        """Members that could take over, the best first."""
        return self._standbys(GOOD)

    @property
    def survivors(self) -> list[Member]:
        """Members whose hosts answer and that could take over from a dead leader, the best first."""
        return [member for member in self._standbys((*GOOD, UNLED)) if member.host is not None]

    def _standbys(self, states: tuple[str, ...]) -> list[Member]:
        found = [m for m in self.members if m.role not in LEADERS and m.state in states]
        return sorted(found, key=lambda m: (m.role not in SYNC, m.lag is None, m.lag or 0, m.name))

    @property
    def troubles(self) -> list[str]:
        """What somebody on call should see."""
        found = [f"{host}: {why}" for host, why in self.silent.items()]
        if self.leader is None:
            found.append("nobody leads: no write is taken")
        if self.paused:
            found.append("in maintenance: Patroni fails nobody over")
        if self.members and not self.quorum:
            found.append(f"etcd has {self.voters} of {len(self.members)} votes: no majority")
        if self.synchronous and not any(m.role in SYNC for m in self.members):
            found.append("no synchronous standby: the leader goes on alone")
        for member in self.members:
            found += _troubles(member)
        return found


def _troubles(member: Member) -> list[str]:
    found = []
    if member.state not in GOOD:
        found.append(f"{member.name} is {member.state}")
    if member.etcd != "healthy":
        found.append(f"etcd of {member.name}: {member.etcd}")
    if member.pgbouncer.get("trouble"):
        found.append(f"PgBouncer of {member.name}: {member.pgbouncer['trouble']}")
    if member.pgbouncer.get("paused"):
        found.append(f"PgBouncer of {member.name} is paused: clients wait")
    if member.pgbouncer.get("following"):
        found.append(f"PgBouncer of {member.name} follows {member.pgbouncer['following']}")
    if member.pending_restart:
        found.append(f"{member.name} has settings that wait for a restart")
    return found


def collect(fleet: Fleet, hosts: Iterable[str]) -> View:
    """Asks all database hosts at once. Raises BacklineError when none of them answers."""
    names = list(hosts)
    if not names:
        raise BacklineError("the inventory has no group database", state="nothing was changed")

    def ask(host: str) -> Answer:
        return fleet.call(host, "database", {"action": "status"}, deadline=DEADLINE)

    return view_of(fleet.each(names, ask, deadline=DEADLINE))


def view_of(outcomes: Mapping[str, Outcome[Answer]]) -> View:
    """One view from what each host said: the leader's, else of whoever sees most."""
    answers = {host: o.value for host, o in outcomes.items() if o.value is not None}
    silent = {
        host: o.error.message if o.error else "no answer"
        for host, o in outcomes.items()
        if o.value is None
    }
    if not answers:
        unreachable = all(isinstance(o.error, Unreachable) for o in outcomes.values())
        hint = _hint([o.error for o in outcomes.values() if o.error])
        raise BacklineError(
            "no database host can be reached"
            if unreachable
            else "no database host says how the cluster is: " + "; ".join(silent.values()),
            hosts=silent,
            state="nothing was changed",
            hint=hint or "ping one; systemctl status patroni",
        )
    best = max(answers.values(), key=_weight)
    by_name = {str(answer["name"]): (host, answer) for host, answer in answers.items()}
    listed = {str(entry["name"]): entry for entry in best.get("members") or ()}
    names = sorted({*best.get("peers", ()), *listed})
    etcd = {name: _etcd(name, answers.values()) for name in names}
    members = tuple(
        _member(name, listed.get(name, {}), by_name.get(name), etcd[name]) for name in names
    )
    return View(
        scope=str(best["scope"]),
        members=members,
        leader=best.get("leader"),
        synchronous=bool(best.get("synchronous")),
        paused=bool(best.get("paused")),
        silent=silent,
    )


def _hint(errors: list[HostError]) -> str:
    if any(error.code in ("unknown_verb", "unknown_field") for error in errors):
        return (
            "hostctl there is older than this checkout: fab provision --on database --tags hostctl"
        )
    return next((error.hint for error in errors if error.hint), "")


def _weight(answer: Answer) -> tuple[bool, int]:
    return answer.get("leader") == answer["name"], len(answer.get("members") or ())


def _etcd(name: str, answers: Iterable[Answer]) -> str:
    said = [str(answer["etcd"].get(name, "not asked")) for answer in answers]
    return "healthy" if "healthy" in said else said[0]


def _member(
    name: str, entry: Mapping[str, Any], own: tuple[str, Answer] | None, etcd: str
) -> Member:
    lag = entry.get("lag")
    timeline = entry.get("timeline")
    return Member(
        name=name,
        host=own[0] if own else None,
        role=str(entry.get("role", "missing")),
        state=str(entry.get("state", "missing")),
        timeline=timeline if isinstance(timeline, int) else None,
        lag=lag if isinstance(lag, int) else None,
        pending_restart=bool(entry.get("pending_restart")),
        etcd=etcd,
        pgbouncer=own[1]["pgbouncer"] if own else {},
        error=None if own else "its host does not answer",
    )
