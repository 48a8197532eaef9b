"""`hostctl balance`: keep a server out of this host's HAProxy, across reloads and reboots too.

It belongs to no app and no run, so it needs no lease and is in journald only. What is kept out
is in HAProxy's server-state file, which HAProxy reads at every start and reload: the file comes
first, the running HAProxy second, so that whatever is killed in between errs towards what was
asked, and saying it again completes it.
"""

from __future__ import annotations

from . import files, haproxy, record
from .errors import HostctlError
from .haproxy import Server
from .host import Host
from .names import Request

STATE = "/var/lib/haproxy/backline-servers"  # named by roles/edge
LOCK = "/var/lib/backline/balance.lock"

Kept = dict[tuple[str, str], Server]


def balance(host: Host, request: Request) -> dict[str, object]:
    """The verb `balance`. `out` and `in` return {out, already, backends}.

    `show` returns {out: [names], servers: {backend: {name: state}}}. Raises `UsageError`, or
    `HostctlError`: no_balancer, unknown_server, balancer_failed, balancer_refused, busy.
    """
    action = request.choice("action", ("out", "in", "show"))
    if action == "show":
        return _show(host)
    name, out = request.server(), action == "out"
    with files.locked(host, host.path(LOCK)):
        found = haproxy.servers(host)
        mine, kept = [server for server in found if server.name == name], load(host)
        if not mine and (out or not _named(kept, name)):
            raise _unknown(name, found)
        new = _with(kept, mine) if out else _without(kept, name)
        already = new.keys() == kept.keys() and all(server.out == out for server in mine)
        if not already:
            record.announce(host, request, "done", action=action, server=name)
        if new != kept:
            _save(host, new)
        _settle(host, name, out)
    return {"out": out, "already": already, "backends": sorted({s.backend for s in mine})}


def _show(host: Host) -> dict[str, object]:
    servers: dict[str, dict[str, str]] = {}
    for server in haproxy.servers(host):
        servers.setdefault(server.backend, {})[server.name] = server.state
    return {"out": sorted({name for _, name in load(host)}), "servers": servers}


def load(host: Host) -> Kept:
    """The servers that are kept out, as the state file has them; none without a file."""
    try:
        text = host.path(STATE).read_text("utf-8", "replace")
    except FileNotFoundError:
        return {}
    return _with({}, [server for server in haproxy.parse(text) if server.out])


def _save(host: Host, kept: Kept) -> None:
    """HAProxy's user has to read it."""
    files.write_atomic(host.path(STATE), haproxy.state_file(kept.values()).encode(), 0o644)


def _with(kept: Kept, servers: list[Server]) -> Kept:
    """`kept` and these, as they will be kept: nothing of what HAProxy thinks of them just now."""
    more = {
        (s.backend, s.name): s._replace(state="maint", out=True, checked=False) for s in servers
    }
    return {**kept, **more}


def _without(kept: Kept, name: str) -> Kept:
    return {key: server for key, server in kept.items() if server.name != name}


def _named(kept: Kept, name: str) -> bool:
    return any(server.name == name for server in kept.values())


def _settle(host: Host, name: str, out: bool) -> None:
    """Return when the running HAProxy does as the file says.

    A reload may be on its way that has read the file before it was written: then the next worker
    is told, too. Raises `HostctlError` when that does not come to an end.
    """
    haproxy.settle(host, lambda: _told(host, name, out))


def _told(host: Host, name: str, out: bool) -> bool:
    """Tell HAProxy what it does not do yet. True when the worker that will stay was asked."""
    pid = haproxy.worker(host)
    for server in haproxy.servers(host):
        if server.name == name and server.out != out:
            haproxy.put(host, server, out)
    return haproxy.is_current(host, pid)


def _unknown(name: str, found: list[Server]) -> HostctlError:
    known = sorted({server.name for server in found})
    return HostctlError(
        "unknown_server",
        f"HAProxy has no server {name} here; nothing was changed",
        f"its servers: {', '.join(known) or 'none'}",
        servers=known,
    )
