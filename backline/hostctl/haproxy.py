"""What hostctl asks the HAProxy of this host, and how HAProxy writes down its servers' states.

`show servers state` and the server-state file are one format: a version, a header, one line of
25 fields per server (management.txt of HAProxy 2.6, "show servers state").
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .errors import HostctlError
from .host import Host
from .names import SERVER

SOCKET = "/run/haproxy/admin.sock"
MASTER = "/run/haproxy/master.sock"
WAIT = 5.0
SETTLED_WITHIN, EVERY = 20.0, 0.2
HEADER = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight "
    "srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health "
    "srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord "
    "srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port"
)
FIELDS = 25
FORCED_MAINT, ANY_MAINT, ANY_DRAIN = 0x01, 0x27, 0x18  # of srv_admin_state
CONFIGURED = 0x02  # of srv_check_state
OPERATIONAL = ("down", "starting", "up", "stopping")


class Server(NamedTuple):
    """A server of a backend; `out` when it was put into maintenance by command."""

    backend: str
    name: str
    state: str  # maint, drain, or one of OPERATIONAL
    out: bool
    checked: bool
    port: int
    ssl: int


def there(host: Host) -> bool:
    """True when a HAProxy that can be asked runs on this host."""
    return host.path(SOCKET).is_socket()


def ask(host: Host, command: str, path: str = SOCKET) -> str:
    """The answer to one line of commands.

    Raises `HostctlError`: no_balancer without a socket, balancer_failed when nobody answers.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAIT)
            connection.connect(str(host.path(path)))
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)  # the master keeps its side open otherwise
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except FileNotFoundError:
        raise HostctlError(
            "no_balancer", f"no HAProxy runs on this host: {path} is not there", "is it an edge?"
        ) from None
    except OSError as error:
        raise HostctlError(
            "balancer_failed",
            f"HAProxy does not answer on {path}: {error}",
            "systemctl status haproxy; then say it again",
        ) from None
    return answer.decode("utf-8", "replace")


def servers(host: Host) -> list[Server]:
    """Every server of every backend. Raises `HostctlError` like `ask`."""
    text = ask(host, "show servers state")
    if text.partition("\n")[0] != "1":
        said = text.strip()[:200]
        raise HostctlError("balancer_failed", f"HAProxy's answer is not understood: {said!r}")
    return parse(text)


def parse(text: str) -> list[Server]:
    """The servers in a dump or a state file. What HAProxy could not have written is left out."""
    rows = [line.split() for line in text.splitlines()[1:] if not line.startswith("#")]
    return [_server(row) for row in rows if _is_server(row)]


def _is_server(row: list[str]) -> bool:
    numbers = (5, 6, 13, 18, 20)
    return (
        len(row) == FIELDS
        and all(SERVER.fullmatch(row[n]) for n in (1, 3))
        and all(row[n].isascii() and row[n].isdecimal() for n in numbers)
        and int(row[5]) < len(OPERATIONAL)
    )


def _server(row: list[str]) -> Server:
    operational, admin, check, port, ssl = (int(row[n]) for n in (5, 6, 13, 18, 20))
    state = OPERATIONAL[operational]
    if admin & (ANY_MAINT | ANY_DRAIN):
        state = "maint" if admin & ANY_MAINT else "drain"
    out, checked = bool(admin & FORCED_MAINT), bool(check & CONFIGURED)
    return Server(row[1], row[3], state, out, checked, port, ssl)


def state_file(kept_out: Iterable[Server]) -> str:
    """The server-state file that starts HAProxy with exactly these servers in maintenance.

    Only names are matched. srv_check_status must be 1 (not yet checked): after a 0, HAProxy 2.6
    never believes a check again and crashes some seconds after the server came back. The weights
    and the address are the configuration's. The port is not, HAProxy takes it from here: who comes
    in after the configuration got another port is down until the next reload.
    """
    lines = [
        f"0 {s.backend} 0 {s.name} - 0 1 1 1 0 1 0 0 0 0 0 0 - {s.port} - {s.ssl} 0 - - 0"
        for s in sorted(kept_out)
    ]
    return "\n".join(["1", HEADER, *lines]) + "\n"


def put(host: Host, server: Server, out: bool) -> None:
    """Put a server into maintenance, or let it in: down at first, until its checks have passed.

    Raises `HostctlError`: balancer_refused with HAProxy's own words, or like `ask`.
    """
    name = f"{server.backend}/{server.name}"
    command = f"set server {name} state {'maint' if out else 'ready'}"
    if not out and server.checked:
        command += f"; set server {name} health down"
    said = ask(host, command).strip()
    if said:
        raise HostctlError("balancer_refused", f"HAProxy says of {command!r}: {said[:200]}")


def worker(host: Host) -> str:
    """The process ID of the worker that answers. Raises `HostctlError` like `ask`."""
    info = dict(line.partition(": ")[::2] for line in ask(host, "show info").splitlines())
    return info.get("Pid", "")


def is_current(host: Host, pid: str) -> bool:
    """True when the master is not about to replace the worker `pid`, or there is no master.

    A master that reloads reads the state file, then makes a worker, and answers nobody meanwhile.
    """
    if not host.path(MASTER).exists():
        return True
    rows = [line.split() for line in ask(host, "show proc", MASTER).splitlines()]
    workers = [row for row in rows if len(row) > 2 and row[1] == "worker"]
    return [row[0] for row in workers if row[2] == "0"] == [pid]


def settle(host: Host, told: Callable[[], bool]) -> None:
    """Return when `told`, which tells HAProxy and looks, says that it does as it should.

    Raises `HostctlError` when that does not come to an end, at once when HAProxy refuses.
    """
    deadline = host.boottime() + SETTLED_WITHIN
    while True:
        try:
            if told():
                return
            problem = HostctlError("busy", "HAProxy is being reloaded", "say it again")
        except HostctlError as error:
            if error.code == "balancer_refused":
                raise
            problem = error
        if host.boottime() >= deadline:
            raise problem
        host.sleep(EVERY)
