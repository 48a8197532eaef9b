"""`hostctl proxy`: what a planned switchover asks of the HAProxy that follows Patroni on app hosts.

hold:    the leader's server stays as it is though checks would now call it down, so that nobody's
         connection is ended while it waits in a paused PgBouncer; the candidate's gets no connection
         before it takes writes. By a timer the host lets go of all this by itself.
shift:   the new leader's server takes all new connections, the old one's keeps those it has.
drain:   a standby that will be restarted gets no new readers, and keeps those it has.
release: checks decide again. What is left on a server that they call down then ends.

It belongs to no app: no lease, and in journald only. A hold belongs to the run that asked for it, and
nobody else ends it before the host does; one without a run is anybody's. HAProxy keeps it across a reload
(the server-state file), not across a restart, after which checks decide: that errs towards safety.
"""

from __future__ import annotations

from typing import NamedTuple

from . import files, haproxy, record, undo
from .errors import HostctlError, Refused
from .host import Host
from .names import Request

SOCKET = "/run/database-proxy/admin.sock"
LOCK = "/var/lib/backline/proxy.lock"
RUN = "/run/backline/proxy.run"  # whose hold it is
WRITERS, READERS = "primary", "replicas"
HOLD, LEAST, MOST = 180.0, 10.0, 1800.0
UP_WITHIN = 8.0
# Two checks that fail: one second between them, and two for each that nobody answers.
JUDGED_AFTER = 7.0
EVERY = 0.2
UP, CHECKS, DRAINED = 2, 0x04, 0x18  # srv_op_state, of srv_check_state, of srv_admin_state


class Server(NamedTuple):
    """A server as HAProxy has it. `checked`: its checks count. `drained`: no new connections."""

    backend: str
    name: str
    up: bool
    checked: bool
    drained: bool
    sessions: int

    @property
    def held(self) -> bool:
        return self.drained or not self.checked

    def as_json(self) -> dict[str, object]:
        return {**self._asdict(), "held": self.held}


def proxy(host: Host, request: Request) -> dict[str, object]:
    """The verb `proxy`. Returns {held, run, undone_by_itself, servers, already}; `status` without already.

    Raises `UsageError`, `Refused` (not_leader, no_candidate, held, is_leader) or `HostctlError`: no_proxy,
    unknown_server, proxy_failed, proxy_refused, not_up, busy.
    """
    action = request.choice("action", ("status", "hold", "shift", "drain", "release"))
    if action == "status":
        return _answer(host)
    with files.locked(host, host.path(LOCK)):
        _refuse_others(host, request)
        work = {"hold": _hold, "shift": _shift, "drain": _drain, "release": _release}[action]
        changed = work(host, request)
    return {**_answer(host), "already": not changed}


def undo_by_itself(host: Host, request: Request) -> str:
    """What the timer does. Returns what was done, for people."""
    with files.locked(host, host.path(LOCK)):
        if undo.pending(host, "proxy"):  # who held it anew meanwhile has a timer of its own
            return "it is held anew"
        changed = _release(host, request)
    return "the database proxy's checks decide again" if changed else "nothing was held"


def servers(host: Host) -> list[Server]:
    """The servers of both backends. Raises `HostctlError` (no_proxy, proxy_failed)."""
    states, stat = _ask(host, "show servers state"), _ask(host, "show stat")
    sessions = parse_sessions(stat)
    found = parse(states, sessions)
    if not found:
        said = states.strip()[:200]
        raise HostctlError("proxy_failed", f"the proxy's answer is not understood: {said!r}")
    return found


def parse(states: str, sessions: dict[tuple[str, str], int]) -> list[Server]:
    """The servers in `show servers state`; lines that HAProxy could not have written are left out."""
    rows = [line.split() for line in states.splitlines()[1:] if not line.startswith("#")]
    return [
        Server(
            row[1],
            row[3],
            int(row[5]) == UP,
            bool(int(row[13]) & CHECKS),
            bool(int(row[6]) & DRAINED),
            sessions.get((row[1], row[3]), 0),
        )
        for row in rows
        if len(row) == haproxy.FIELDS
        and row[1] in (WRITERS, READERS)
        and all(row[n].isascii() and row[n].isdecimal() for n in (5, 6, 13))
    ]


def parse_sessions(stat: str) -> dict[tuple[str, str], int]:
    """{(backend, server): its connections} of `show stat`."""
    import csv

    rows = csv.DictReader(stat.removeprefix("# ").splitlines())
    return {
        (row["pxname"], row["svname"]): int(row["scur"])
        for row in rows
        if (row.get("scur") or "").isdecimal() and row.get("svname") not in ("FRONTEND", "BACKEND")
    }


def _answer(host: Host) -> dict[str, object]:
    found = servers(host)
    return {
        "held": [f"{server.backend}/{server.name}" for server in found if server.held],
        "run": _holder(host, found) or None,
        "undone_by_itself": undo.pending(host, "proxy"),
        "servers": [server.as_json() for server in found],
    }


def _holder(host: Host, found: list[Server]) -> str:
    """The run that holds writers; empty when none does, or one without a name."""
    if not any(server.held for server in found if server.backend == WRITERS):
        return ""
    try:
        return host.path(RUN).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _run(request: Request) -> str:
    return request.run() if request.has("run") else ""


def _refuse_others(host: Host, request: Request) -> None:
    holder = _holder(host, servers(host))
    if holder and holder != _run(request):
        raise Refused(
            "held",
            f"run {holder} holds this proxy; nothing was changed",
            "it lets go when it ends, or the host by itself when it was killed; by hand, with that run "
            "in the request: hostctl proxy",
        )


def _hold(host: Host, request: Request) -> bool:
    leader, candidate = request.server("leader"), request.server("candidate")
    seconds = request.seconds("seconds", HOLD, minimum=LEAST, maximum=MOST)
    writers, readers = _by_name(host, WRITERS), _by_name(host, READERS)
    for name in (leader, candidate):
        if name not in writers:
            raise _unknown(name, list(writers))
    if leader == candidate:
        raise Refused("no_candidate", f"{leader} cannot take over from itself; nothing was held")
    others = [server for server in writers.values() if server.held and server.name != leader]
    foreign = _run(request) != _holder(host, list(writers.values()))
    if others and (foreign or not writers[candidate].drained):
        names = ", ".join(server.name for server in others)
        raise Refused("held", f"{names} is held already; nothing was changed", "release it first")
    if not writers[leader].up:
        raise Refused(
            "not_leader",
            f"{leader} is down for this proxy, which sends writes elsewhere; nothing was held",
            "hostctl proxy status, and the database's own: fab db.status",
        )
    undo.later(host, "proxy", seconds)
    _name(host, _run(request))
    record.announce(host, request, "done", action="hold", leader=leader, candidate=candidate)
    commands = [f"disable health {WRITERS}/{leader}", _state(WRITERS, candidate, "drain")]
    if candidate in readers:
        # Readers there are not cut off because it is a replica no more.
        commands.append(f"disable health {READERS}/{candidate}")
        commands.append(_state(READERS, candidate, "drain"))
    done = writers[leader].checked or not writers[candidate].drained
    try:
        for command in commands:
            _tell(host, command)
    except HostctlError:
        _release(host, request)
        raise
    return done


def _shift(host: Host, request: Request) -> bool:
    leader = request.server("leader")
    found = _by_name(host, WRITERS)
    if leader not in found:
        raise _unknown(leader, list(found))
    old = [server for server in found.values() if not server.checked and server.name != leader]
    changed = found[leader].drained or any(not server.drained for server in old)
    if changed:
        record.announce(host, request, "done", action="shift", leader=leader)
    _until_up(host, leader)
    # Him first: there is no moment without anybody.
    _tell(host, _state(WRITERS, leader, "ready"))
    for server in old:
        _tell(host, _state(WRITERS, server.name, "drain"))
    return changed


def _drain(host: Host, request: Request) -> bool:
    name = request.server("server")
    seconds = request.seconds("seconds", HOLD, minimum=LEAST, maximum=MOST)
    writers, readers = _by_name(host, WRITERS), _by_name(host, READERS)
    if name not in readers:
        raise _unknown(name, list(readers))
    if writers[name].up:
        raise Refused(
            "is_leader", f"{name} takes writes; nothing was drained", "hand over: fab db.switchover"
        )
    undo.later(host, "proxy", seconds)
    if readers[name].drained:
        return False
    record.announce(host, request, "done", action="drain", server=name)
    _tell(host, _state(READERS, name, "drain"))
    return True


def _until_up(host: Host, name: str) -> None:
    deadline = host.boottime() + UP_WITHIN
    while not _by_name(host, WRITERS)[name].up:
        if host.boottime() >= deadline:
            raise HostctlError(
                "not_up",
                f"checks of {name} do not pass within {UP_WITHIN:g} s; new connections still go "
                "where they went",
                "hostctl proxy status; journalctl -u database-proxy",
            )
        host.sleep(EVERY)


def _release(host: Host, request: Request) -> bool:
    """Checks count again, and only when they have decided may a server get connections again."""
    held = [server for server in servers(host) if server.held]
    for server in held:
        if not server.checked:
            _tell(host, f"enable health {server.backend}/{server.name}")
    # What it says of these is from before they were held.
    old = [server for server in held if server.drained and server.up and not server.checked]
    for server in held:
        if server.drained and server not in old:
            _tell(host, _state(server.backend, server.name, "ready"))
    _judged(host, {(server.backend, server.name) for server in old})
    for server in old:
        _tell(host, _state(server.backend, server.name, "ready"))
    _name(host, "")
    undo.cancel(host, "proxy")
    if held:
        names = " ".join(f"{server.backend}/{server.name}" for server in held)
        record.announce(host, request, "done", action="release", servers=names)
    return bool(held)


def _name(host: Host, run: str) -> None:
    path = host.path(RUN)
    if not run:
        files.remove(path)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write_atomic(path, f"{run}\n".encode())


def _judged(host: Host, names: set[tuple[str, str]]) -> None:
    """Wait until checks call these down, or have had the time to."""
    deadline = host.boottime() + JUDGED_AFTER
    while names and host.boottime() < deadline:
        if not any(server.up for server in servers(host) if (server.backend, server.name) in names):
            return
        host.sleep(EVERY)


def _by_name(host: Host, backend: str) -> dict[str, Server]:
    return {server.name: server for server in servers(host) if server.backend == backend}


def _state(backend: str, name: str, state: str) -> str:
    return f"set server {backend}/{name} state {state}"


def _tell(host: Host, command: str) -> None:
    said = _ask(host, command).strip()
    if said:
        raise HostctlError("proxy_refused", f"the proxy says of {command!r}: {said[:200]}")


def _ask(host: Host, command: str) -> str:
    try:
        return haproxy.ask(host, command, SOCKET)
    except HostctlError as error:
        if error.code == "no_balancer":
            raise HostctlError(
                "no_proxy", "no database proxy runs on this host", "is it an app host?"
            ) from None
        raise HostctlError(
            "proxy_failed",
            f"the database proxy does not answer: {error.message}",
            "systemctl status database-proxy; then say it again",
        ) from None


def _unknown(name: str, known: list[str]) -> HostctlError:
    return HostctlError(
        "unknown_server",
        f"the database proxy has no server {name}; nothing was held",
        f"its servers: {', '.join(sorted(known))}",
        servers=sorted(known),
    )
