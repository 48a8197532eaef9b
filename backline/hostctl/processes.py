"""`hostctl start` and `hostctl stop`: one instance of one process, by its release.

The order to systemd is given under the app's lock, so that nobody who was fenced out can still
give it; the waiting is done outside of it, so that a slow start keeps nobody else waiting.
"""

from __future__ import annotations

from typing import NamedTuple

from . import files, record, settings, state, units
from .errors import HostctlError, Refused
from .host import Host
from .names import Request
from .settings import App, Manifest, Process

START_DEADLINE = 60.0
STOP_GRACE = 15.0  # beyond the process's own stop_timeout: systemd kills first, then says so


class Target(NamedTuple):
    """What a request points at."""

    app: App
    process: Process
    release: str
    manifest: Manifest
    unit: str


def target(host: Host, request: Request, release: str = "") -> Target:
    """Look up the app, the process and the staged release a request names."""
    app = settings.app(host, request.app())
    process = settings.process(host, app.name, request.process())
    release = release or request.release()
    manifest = settings.manifest(host, app, release)
    settings.process_manifest(manifest, process)
    return Target(app, process, release, manifest, units.name(process, release))


def start(host: Host, request: Request) -> dict[str, object]:
    """The verb `start`. Returns {unit, already}."""
    deadline = request.seconds("deadline", START_DEADLINE, minimum=1, maximum=900)
    wanted = target(host, request)
    return {"unit": wanted.unit, "already": not start_target(host, request, wanted, deadline)}


def start_target(host: Host, request: Request, wanted: Target, deadline: float) -> bool:
    """Start an instance and wait until systemd calls it ready. False when it already was.

    Raises `HostctlError` (unit_missing, start_failed) or `Refused` (singleton_running).
    """
    what = {"process": wanted.process.name, "release": wanted.release}
    with record.fenced(host, request):
        found = units.show(host, wanted.process, wanted.release)
        if found.running:
            return False
        if not found.loaded:
            raise HostctlError(
                "unit_missing",
                f"systemd knows no {wanted.process.unit}",
                "run the playbook that writes it",
            )
        _refuse_second_singleton(host, wanted)
        record.change(host, request, "begin", **what)
        if found.active == "failed":
            units.order(host, "reset-failed", wanted.unit)
        units.order(host, "start", "--no-block", wanted.unit)
    try:
        _wait_running(host, wanted, deadline)
    except HostctlError as error:
        record.outcome(host, request, "failed", error=error.code, **what)
        raise
    record.outcome(host, request, "done", **what)
    return True


def _refuse_second_singleton(host: Host, wanted: Target) -> None:
    if wanted.process.kind != "singleton":
        return
    others = [
        entry.release
        for entry in units.instances(host, wanted.process)
        if entry.release != wanted.release and not entry.stopped
    ]
    if others:
        raise Refused(
            "singleton_running",
            f"{wanted.process.name} may run only once, and {others[0]} runs; nothing was changed",
            f"stop {others[0]} first",
            running=others,
        )


def _wait_running(host: Host, wanted: Target, deadline: float) -> None:
    """Wait until the instance runs; one that does not is stopped again."""
    end = host.boottime() + deadline
    reason = f"was not ready after {deadline:.0f} s"
    while host.boottime() < end:
        found = units.show(host, wanted.process, wanted.release)
        if found.running:
            return
        if found.stopped or found.crashing:
            reason = f"ended at once ({found.result or found.active})"
            break
        host.sleep(units.POLL)
    tail = units.log_tail(host, wanted.unit)
    host.run(["systemctl", "stop", "--no-block", wanted.unit], timeout=30)
    raise HostctlError(
        "start_failed",
        f"{wanted.unit} {reason}; it was stopped again, what served before still serves",
        f"its log ends: {tail or '(empty)'}",
    )


def stop(host: Host, request: Request) -> dict[str, object]:
    """The verb `stop`: graceful, waits until it is over. Returns {stopped, already}."""
    wanted = target(host, request)
    declared = settings.process_manifest(wanted.manifest, wanted.process)
    patience = float(declared.get("stop_timeout") or 30) + STOP_GRACE
    deadline = request.seconds("deadline", patience, minimum=1, maximum=86400)
    what = {"process": wanted.process.name, "release": wanted.release}
    with record.fenced(host, request):
        live = state.live(state.load(host, wanted.app.name), wanted.process.name)
        if live == wanted.release and not request.boolean("force"):
            raise Refused(
                "live_release",
                f"{wanted.release} is the live release of {wanted.process.name}; it still runs",
                'switch to another release first, or send "force": true',
            )
        if units.show(host, wanted.process, wanted.release).stopped:
            _remove_socket(host, wanted)
            return {"stopped": True, "already": True}
        record.change(host, request, "begin", **what)
        units.order(host, "stop", "--no-block", wanted.unit)
    try:
        _wait_stopped(host, wanted, deadline)
    except HostctlError as error:
        record.outcome(host, request, "failed", error=error.code, **what)
        raise
    _remove_socket(host, wanted)
    record.outcome(host, request, "done", **what)
    return {"stopped": True, "already": False}


def _wait_stopped(host: Host, wanted: Target, deadline: float) -> None:
    end = host.boottime() + deadline
    while not units.show(host, wanted.process, wanted.release).stopped:
        if host.boottime() >= end:
            raise HostctlError(
                "stop_timeout",
                f"{wanted.unit} still finishes its work after {deadline:.0f} s; "
                "it was asked to stop and takes nothing new",
                "ask again later, or look at `systemctl status` on the host",
            )
        host.sleep(units.POLL)


def _remove_socket(host: Host, wanted: Target) -> None:
    """A web process that was killed leaves its socket: nothing may connect to it any more."""
    if wanted.process.kind == "http":
        files.remove(settings.socket_path(host, wanted.app, wanted.release))
