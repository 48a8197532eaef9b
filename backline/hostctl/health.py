"""`hostctl check`: is an instance healthy, N times in a row, before its deadline?

An http process is asked over the socket of its own release, before anybody else can reach it;
a worker must be up and, where the release says how, answer a command. One failure starts the
count again, and so does a restart between two checks: a process that flaps never passes. Nor does
a web process whose workers end while it is watched: something kills them, and their requests.
"""

from __future__ import annotations

import http.client
import socket
from typing import Any, NamedTuple

from . import commands, settings, units
from .errors import HostctlError
from .host import Host
from .names import Request
from .processes import Target, target

HISTORY = 100
BODY_LIMIT = 64 * 1024
GLANCE = 1.0

Sample = dict[str, Any]


class Terms(NamedTuple):
    """What healthy means: `passes` good samples in a row before `deadline` seconds are over.

    With `hold` (seconds) every sample for that long must be good instead; `strict` gives up at the
    first bad one; `pid` is the main process that must still be there (0: any).
    """

    passes: int
    interval: float
    deadline: float
    strict: bool = False
    hold: float = 0.0
    pid: int = 0

    @property
    def impatient(self) -> bool:
        """True when one bad sample is enough."""
        return self.strict or self.hold > 0

    def met(self, row: int, watched: float) -> bool:
        """True when `row` good samples in a row, over `watched` seconds, are enough."""
        return row > 0 and watched >= self.hold if self.hold else row >= self.passes


def check(host: Host, request: Request) -> dict[str, object]:
    """The verb `check`. Returns {healthy, passes, history, pid, restarts}."""
    return check_target(
        host,
        target(host, request),
        Terms(
            passes=request.integer("passes", 3, minimum=1, maximum=100),
            interval=request.seconds("interval", 0.5, minimum=0.01, maximum=60),
            deadline=request.seconds("deadline", 30, minimum=0.1, maximum=3600),
            strict=request.boolean("strict"),
            hold=request.seconds("for", 0, minimum=0, maximum=3600),
            pid=request.integer("pid", 0, minimum=0, maximum=2**31),
        ),
    )


def check_target(host: Host, wanted: Target, terms: Terms) -> dict[str, object]:
    """Check until the terms are met. Raises `HostctlError` (unhealthy)."""
    began = host.boottime()
    end = began + terms.hold + terms.deadline
    history: list[Sample] = []
    row, last = 0, (0, 0)
    workers: set[int] = set()
    while True:
        found = units.show(host, wanted.process, wanted.release)
        sample = _sample(host, wanted, found, timeout=max(0.1, end - host.boottime()))
        life, replaced = (found.pid, found.restarts), terms.pid not in (0, found.pid)
        if replaced or (row and life != last):
            sample.update(ok=False, detail="it was restarted since the last check")
        last = life
        if terms.hold and _may_not_recycle(wanted):
            there = units.children(host, found.pid)
            if workers - there:
                sample.update(ok=False, detail=f"{len(workers - there)} of its workers ended")
            workers = workers or there
        row = row + 1 if sample["ok"] else 0
        history.append(sample)
        watched = host.boottime() - began
        if terms.met(row, watched):
            return {"healthy": True, **_seen(found, row, history)}
        late = not terms.hold and host.boottime() + terms.interval >= end
        if late or found.stopped or replaced or (terms.impatient and not row):
            raise _unhealthy(host, wanted, found, row, history)
        host.sleep(min(terms.interval, terms.hold - watched) if terms.hold else terms.interval)


def glance(host: Host, app: str, process: str, release: str) -> Sample | None:
    """What a web process says at once: one sample, and nobody waits longer than a second for it.

    None when it is checked by a command, which takes longer. Raises `HostctlError` when the app,
    the process or the release is not there.
    """
    request = Request("check", {"app": app, "process": process, "release": release})
    wanted = target(host, request)
    declared = settings.process_manifest(wanted.manifest, wanted.process)
    if (declared.get("health") or {}).get("command"):
        return None
    return _sample(host, wanted, units.show(host, wanted.process, release), GLANCE)


def _may_not_recycle(wanted: Target) -> bool:
    """True for web processes, unless their release says that workers come and go."""
    declared = settings.process_manifest(wanted.manifest, wanted.process).get("health") or {}
    return wanted.process.kind == "http" and not declared.get("recycles")


def _seen(found: units.Instance, row: int, history: list[Sample]) -> dict[str, object]:
    return {
        "passes": row,
        "history": history[-HISTORY:],
        "pid": found.pid,
        "restarts": found.restarts,
    }


def _unhealthy(
    host: Host, wanted: Target, found: units.Instance, row: int, history: list[Sample]
) -> HostctlError:
    tail = units.log_tail(host, wanted.unit)
    return HostctlError(
        "unhealthy",
        f"{wanted.unit} is not healthy: {history[-1]['detail']} "
        f"({sum(not entry['ok'] for entry in history)} of {len(history)} checks failed)",
        f"its log ends: {tail or '(empty)'}",
        healthy=False,
        **_seen(found, row, history),
    )


def _sample(host: Host, wanted: Target, found: units.Instance, timeout: float) -> Sample:
    """One check: {ok, status, ms, detail}."""
    if not found.running:
        return _result(False, None, 0.0, f"the unit is {found.active} ({found.sub})")
    health = settings.process_manifest(wanted.manifest, wanted.process).get("health") or {}
    began = host.boottime()
    if health.get("command"):
        status, detail = _ask_command(host, wanted, health, timeout)
        ok = status == 0
    elif wanted.process.kind == "http":
        status, body = _ask_http(host, wanted, health, timeout)
        problem = _problem(health, status, body, host.boottime() - began)
        ok, detail = problem is None, problem or " ".join(body[:200].split())
    else:
        status, detail, ok = None, "the unit is active", True
    return _result(ok, status, host.boottime() - began, detail)


def _problem(health: dict[str, Any], status: int | None, body: str, took: float) -> str | None:
    """What is wrong with an answer over HTTP, or None."""
    if status != int(health.get("status", 200)):
        return " ".join(body[:200].split())
    if health.get("contains") and str(health["contains"]) not in body:
        said = " ".join(body[:100].split())
        return f"the answer does not contain {health['contains']!r}: {said or '(empty)'}"
    if health.get("within") and took > float(health["within"]):
        return f"it answered after {took:.3f} s, {float(health['within']):g} s are allowed"
    return None


def _result(ok: bool, status: int | None, seconds: float, detail: str) -> Sample:
    return {"ok": ok, "status": status, "ms": round(seconds * 1000, 1), "detail": detail}


def _ask_command(
    host: Host, wanted: Target, health: dict[str, Any], timeout: float
) -> tuple[int | None, str]:
    values = settings.placeholders(host, wanted.app, wanted.process, wanted.release)
    argv = settings.fill(health["command"], values)
    limit = min(timeout, float(health.get("timeout", 10)))
    ended = commands.run(host, wanted.app, wanted.manifest, argv, limit)
    said = " ".join((ended.err or ended.out).split())[-200:]
    if ended.status is None:
        return None, f"the health command did not end within {limit:g} s"
    return ended.status, said or f"the health command exited with {ended.status}"


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _ask_http(
    host: Host, wanted: Target, health: dict[str, Any], timeout: float
) -> tuple[int | None, str]:
    """GET the health path: (status, body), or (None, what went wrong).

    `X-Forwarded-Proto: https`, as the edge says it: no redirect then.
    """
    path = settings.socket_path(host, wanted.app, wanted.release)
    limit = min(timeout, float(health.get("timeout", 2)))
    connection = _SocketConnection(str(path), limit)
    headers = {"User-Agent": "hostctl", "X-Forwarded-Proto": "https", "Connection": "close"}
    try:
        connection.request("GET", str(health.get("path", "/")), headers=headers)
        answer = connection.getresponse()
        body = answer.read(BODY_LIMIT)
    except (OSError, http.client.HTTPException) as error:
        return None, f"no answer on {path.name}: {error or type(error).__name__}"
    finally:
        connection.close()
    return answer.status, body.decode("utf-8", "replace")
