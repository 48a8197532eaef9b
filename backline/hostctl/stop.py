"""`hostctl stop`: let one instance of a process finish its work and end, now or later."""

from __future__ import annotations

from . import files, record, settings, state, timers, units
from .errors import HostctlError, Refused
from .host import Host
from .names import Request
from .processes import Target, target

AFTER_LIMIT = 7 * 86400.0
STOP_GRACE = 15.0  # beyond the process's own stop_timeout: systemd kills first, then says so


def stop(host: Host, request: Request) -> dict[str, object]:
    """The verb `stop`: graceful, waits until it is over. Returns {stopped, already}.

    With `after` (seconds) it only schedules the stop: {stopped, scheduled, already}. With
    `"wait": false` it only orders it: {stopped, finishing, already}. A stop that is under way is
    joined, not ordered again.
    """
    wanted = target(host, request)
    deadline = request.seconds("deadline", patience(wanted), minimum=1, maximum=86400)
    after = request.seconds("after", 0, minimum=0, maximum=AFTER_LIMIT)
    wait = request.boolean("wait", True)
    with record.fenced(host, request):
        _refuse_live(host, request, wanted)
        found = units.show(host, wanted.process, wanted.release)
        if found.stopped:
            timers.cancel(host, wanted)
            _remove_socket(host, wanted)
            return {"stopped": True, "already": True}
        if after > 0 and not found.stopping:
            return _stop_later(host, request, wanted, after)
        if not found.stopping:
            timers.cancel(host, wanted)
            order(host, request, wanted)
    if not wait or after > 0:
        return {"stopped": False, "finishing": True, "already": found.stopping}
    wait_for(host, request, wanted, deadline, joined=found.stopping)
    return {"stopped": True, "already": found.stopping}


def patience(wanted: Target) -> float:
    """Seconds that a stop may take: the process's own stop_timeout, and some grace."""
    declared = settings.process_manifest(wanted.manifest, wanted.process)
    return float(declared.get("stop_timeout") or 30) + STOP_GRACE


def _refuse_live(host: Host, request: Request, wanted: Target) -> None:
    live = state.live(state.load(host, wanted.app.name), wanted.process.name)
    if live == wanted.release and not request.boolean("force"):
        raise Refused(
            "live_release",
            f"{wanted.release} is the live release of {wanted.process.name}; it still runs",
            'switch to another release first, or send "force": true',
        )


def _stop_later(host: Host, request: Request, wanted: Target, after: float) -> dict[str, object]:
    """Schedule the stop; one that is scheduled already stays as it is."""
    already = timers.pending(host, wanted)
    if not already:
        what = {"process": wanted.process.name, "release": wanted.release}
        record.change(host, request, "scheduled", after=after, **what)
        timers.schedule(host, wanted, after)
    return {"stopped": False, "scheduled": after, "already": already}


def order(host: Host, request: Request, wanted: Target) -> None:
    """Have systemd stop an instance. The caller holds the app's lock."""
    record.begin(host, request, process=wanted.process.name, release=wanted.release)
    units.order(host, "stop", "--no-block", wanted.unit)


def wait_for(
    host: Host, request: Request, wanted: Target, deadline: float, *, joined: bool
) -> None:
    """Wait until an instance is stopped, and write that down unless somebody else ordered it.

    Raises `HostctlError` (stop_timeout).
    """
    what = {"process": wanted.process.name, "release": wanted.release}
    try:
        _wait_stopped(host, wanted, deadline)
    except HostctlError as error:
        if not joined:
            record.outcome(host, request, "failed", error=error.code, **what)
        raise
    _remove_socket(host, wanted)
    if not joined:
        record.outcome(host, request, "done", **what)


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
