"""`hostctl switch` and `hostctl rollback`: which release is the live one of a process.

For a web process that is one rename of current.sock. Everything around it (what a reboot
restores, what it starts, the link `current`) is put in place in an order that can be cut anywhere
and completed by saying `switch` again; state.json comes last, so it never runs ahead.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NamedTuple

from . import files, health, record, settings, state, timers, units
from .errors import HostctlError, Refused
from .host import Host
from .names import Request
from .processes import START_DEADLINE, Started, Target, start_target, target


class Switched(NamedTuple):
    """What a switch did: the release before, whether it was live already, and since when it is."""

    previous: str | None
    already: bool
    switched_at: float | None


def switch(host: Host, request: Request) -> dict[str, object]:
    """The verb `switch`. Returns {previous, already, switched_at} (epoch seconds)."""
    return switch_target(host, request, target(host, request))._asdict()


def switch_target(host: Host, request: Request, wanted: Target) -> Switched:
    """Make a running release the live one. Raises `Refused` (not_running)."""
    name = wanted.process.name
    with record.fenced(host, request):
        timers.cancel(host, wanted)
        _refuse_idle(host, wanted)
        known = state.load(host, wanted.app.name)
        old = state.live(known, name)
        if old == wanted.release and _in_place(host, wanted):
            return Switched(state.previous(known, name), True, state.switched_at(known, name))
        before = state.previous(known, name) if old == wanted.release else old
        what = {"process": name, "release": wanted.release, "previous": before}
        record.change(host, request, "begin", **what)
        now = _put_in_place(host, wanted)
        known["live"][name] = {"release": wanted.release, "previous": before, "switched_at": now}
        state.save(host, wanted.app.name, known)
        record.change(host, request, "done", **what)
    return Switched(before, False, now)


def rollback(host: Host, request: Request) -> dict[str, object]:
    """The verb `rollback`: start if it is not warm, check, switch. Returns {previous, release,
    started, already, switched_at}; `to` is the release before the live one unless it is named.
    """
    app, name = settings.app(host, request.app()), request.process()
    known = state.load(host, app.name)
    to = request.release("to") if request.has("to") else state.previous(known, name)
    if to is None:
        raise HostctlError(
            "no_previous",
            f"{name} had no release before this one here; nothing was changed",
            "name one: fab rollback --to RELEASE",
        )
    if known["releases"].get(to, {}).get("state") == "bad" and not request.boolean("force"):
        raise Refused(
            "bad_release",
            f"{to} was marked bad; nothing was changed",
            'roll back to another release, or send "force": true',
        )
    wanted = target(host, request, release=to)
    started = start_target(host, request, wanted, START_DEADLINE) is not Started.BEFORE
    terms = health.Terms(
        passes=request.integer("passes", 3 if started else 1, minimum=1, maximum=100),
        interval=request.seconds("interval", 0.2, minimum=0.01, maximum=60),
        deadline=request.seconds("deadline", 30, minimum=0.1, maximum=3600),
    )
    if wanted.process.kind == "http":
        health.check_target(host, wanted, terms)
        switched = switch_target(host, request, wanted)
    else:  # it takes jobs since it was started: to wait with the switch would keep nobody from it
        switched = switch_target(host, request, wanted)
        health.check_target(host, wanted, terms)
    return {**switched._asdict(), "release": to, "started": started}


def _refuse_idle(host: Host, wanted: Target) -> None:
    """No listener is ever sent to a process that is not there."""
    running = units.show(host, wanted.process, wanted.release).running
    if running and (wanted.process.kind != "http" or _listens(host, wanted)):
        return
    raise Refused(
        "not_running",
        f"{wanted.unit} does not run or does not listen; the live release stays",
        "start it and check it first",
    )


def _listens(host: Host, wanted: Target) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(settings.socket_path(host, wanted.app, wanted.release)))
        except OSError:
            return False
    return True


def _current_socket(host: Host, wanted: Target) -> Path:
    return host.path(f"{wanted.app.run}/current.sock")


def _tmpfiles(host: Host, wanted: Target) -> tuple[Path, bytes]:
    """The file that makes current.sock again after a reboot, /run being empty then."""
    line = f"L+ {wanted.app.run}/current.sock - - - - {wanted.release}.sock\n"
    text = "# Written by `hostctl switch`: the release that serves.\n" + line
    return host.path(f"/etc/tmpfiles.d/backline-{wanted.app.name}.conf"), text.encode()


def _put_in_place(host: Host, wanted: Target) -> float:
    """Everything a switch changes. Returns when listeners were sent to the release."""
    if wanted.process.kind == "http":
        path, content = _tmpfiles(host, wanted)
        files.write_atomic(path, content)
        files.point(_current_socket(host, wanted), f"{wanted.release}.sock")
    now = host.wall()
    units.enable_only(host, wanted.process, wanted.release)
    files.point(host.path(f"{wanted.app.root}/current"), f"releases/{wanted.release}")
    return now


def _in_place(host: Host, wanted: Target) -> bool:
    """True when a switch would change nothing for this process."""
    if units.enabled_units(host, wanted.process) != {wanted.unit}:
        return False
    if wanted.process.kind != "http":
        return True
    path, content = _tmpfiles(host, wanted)
    socket_right = files.link_target(_current_socket(host, wanted)) == f"{wanted.release}.sock"
    return socket_right and path.exists() and path.read_bytes() == content
