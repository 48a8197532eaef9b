"""`hostctl start`: one instance of one process, by its release; and what a request points at.

The order to systemd is given under the app's lock, so that nobody who was fenced out can still
give it; the waiting is done outside of it, so that a slow start keeps nobody else waiting.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from . import record, settings, timers, units
from .errors import HostctlError, Refused
from .host import Host
from .names import Request
from .settings import App, Manifest, Process

START_DEADLINE = 60.0


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
    how = start_target(host, request, wanted, deadline)
    return {"unit": wanted.unit, "already": how is not Started.NOW}


class Started(enum.Enum):
    """How an instance came to run: it did already, somebody was about to start it, or we did."""

    BEFORE = 1
    JOINED = 2
    NOW = 3


def start_target(host: Host, request: Request, wanted: Target, deadline: float) -> Started:
    """Start an instance and wait until systemd calls it ready.

    A start that is under way (its controller was killed, say) is joined: waited for, and neither
    ordered nor written down again. Raises `HostctlError` (unit_missing, start_failed) or `Refused`
    (singleton_running).
    """
    what = {"process": wanted.process.name, "release": wanted.release}
    with record.fenced(host, request):
        timers.cancel(host, wanted)
        found = units.show(host, wanted.process, wanted.release)
        if found.running:
            return Started.BEFORE
        if not found.starting:
            _order_start(host, request, wanted, found)
    try:
        _wait_running(host, wanted, deadline)
    except HostctlError as error:
        if not found.starting:
            record.outcome(host, request, "failed", error=error.code, **what)
        raise
    if found.starting:
        return Started.JOINED
    record.outcome(host, request, "done", **what)
    return Started.NOW


def _order_start(host: Host, request: Request, wanted: Target, found: units.Instance) -> None:
    """Have systemd start an instance. The caller holds the app's lock."""
    if not found.loaded:
        raise HostctlError(
            "unit_missing",
            f"systemd knows no {wanted.process.unit}",
            "run the playbook that writes it",
        )
    _refuse_second_singleton(host, wanted)
    record.begin(host, request, process=wanted.process.name, release=wanted.release)
    if found.active == "failed":
        units.order(host, "reset-failed", wanted.unit)
    units.order(host, "start", "--no-block", wanted.unit)


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
