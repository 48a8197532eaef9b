"""`hostctl facts`, `hostctl status` and `hostctl journal`: looking, and changing nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

from . import (
    PROTOCOL,
    VERSION,
    files,
    haproxy,
    journal,
    lease,
    quarantine,
    runs,
    settings,
    state,
    units,
)
from .drain import FLAG
from .errors import HostctlError
from .host import Host
from .names import Request, is_release

UPKEEP = "/var/lib/backline/upkeep"  # of playbooks/files/upkeep_mark.py


def facts(host: Host, request: Request) -> dict[str, object]:
    """The verb `facts`: what a preflight wants to know of a host, in one question.

    With an `app`, the answer has its `status` too: one round trip instead of two. With `wide` it has
    the vital signs, and the statuses of all apps.
    """
    more: dict[str, object] = {"status": status(host, request)} if request.has("app") else {}
    if request.boolean("wide"):
        from .vitals import vitals

        statuses = {name: _glance(host, name) for name in settings.apps(host)}
        more |= {"vitals": vitals(host), "statuses": statuses}
    room = os.statvfs(_existing(host.path("/srv")))
    return {
        "hostctl": VERSION,
        "hostctl_sha256": _own_digest(),
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "hostname": platform.node(),
        "time": host.wall(),
        "disk_free": room.f_bavail * room.f_frsize,
        "inodes_free": room.f_favail,
        "drained": _drained(host),
        "drained_by": _named(host, FLAG),
        "upkeep": _named(host, UPKEEP),
        "balancer": haproxy.there(host),
        "apps": {name: _app_facts(host, name) for name in settings.apps(host)},
        **more,
    }


def _glance(host: Host, name: str) -> dict[str, object]:
    """The status of an app and what its live web processes say just now; or {"trouble"}: one app
    whose state is damaged must not hide the host."""
    try:
        found = _status(host, name)
    except HostctlError as error:
        return {"trouble": error.message}
    processes: dict[str, dict[str, object]] = found["processes"]  # type: ignore[assignment]
    for process, entry in processes.items():
        if entry["kind"] == "http" and entry["live"]:
            entry["health"] = _health(host, name, process, str(entry["live"]))
    return found


def _health(host: Host, app: str, process: str, release: str) -> object:
    from . import health

    try:
        return health.glance(host, app, process, release)
    except HostctlError as error:
        return {"ok": False, "status": None, "ms": 0.0, "detail": error.message}


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _own_digest() -> str | None:
    """The digest of the zipapp that runs, so that a controller can tell an old one."""
    program = Path(sys.argv[0])
    if not program.is_file() or program.suffix == ".py":
        return None
    return hashlib.sha256(program.read_bytes()).hexdigest()


def _drained(host: Host) -> bool:
    return host.path(FLAG).exists()


def _named(host: Host, path: str) -> str | None:
    """The run whose name is in a file; None without one, or for a file that somebody made by hand."""
    try:
        with host.path(path).open(encoding="utf-8", errors="replace") as file:
            said = file.readline(200).strip()
    except OSError:
        return None
    return said if said and said.isprintable() else None


def _app_facts(host: Host, name: str) -> dict[str, object]:
    app = settings.app(host, name)
    return {
        "current": _current(host, app),
        "releases": settings.releases(host, app),
        "processes": settings.process_names(host, name),
    }


def _current(host: Host, app: settings.App) -> str | None:
    name = Path(files.link_target(host.path(f"{app.root}/current")) or "").name
    return name if is_release(name) else None


def status(host: Host, request: Request) -> dict[str, object]:
    """The verb `status`: releases, processes, lease, fence, run and quarantine of one app."""
    return _status(host, request.app())


def _status(host: Host, name: str) -> dict[str, object]:
    app = settings.app(host, name)
    known = state.load(host, app.name)
    return {
        "current": _current(host, app),
        "releases": [_release(host, app, known, entry) for entry in settings.releases(host, app)],
        "good": known["good"],
        "processes": {
            name: _process(host, app, known, name)
            for name in settings.process_names(host, app.name)
        },
        "lease": lease.read_lease(host, app.name),
        "fence": lease.read_fence(host, app.name),
        "run": runs.load(host, app.name),
        "contracted": known["contracted"],
        "quarantine": quarantine.load(host, app.name),
        "drained": _drained(host),
    }


def _release(host: Host, app: settings.App, known: state.State, release: str) -> dict[str, object]:
    manifest = settings.manifest(host, app, release)
    return {
        "id": release,
        "version": manifest.get("version"),
        "processes": sorted(manifest.get("processes") or {}),
        "state": known["releases"].get(release, {}).get("state", "staged"),
        "migrated": known["migrated"].get(release, []),
        "tar": settings.kept_tar(host, app, release).is_file(),
    }


def _process(host: Host, app: settings.App, known: state.State, name: str) -> dict[str, object]:
    process = settings.process(host, app.name, name)
    return {
        "kind": process.kind,
        "process": process.process,
        "live": state.live(known, name),
        "previous": state.previous(known, name),
        "instances": [
            {
                "release": found.release,
                "active": found.active,
                "since": found.since,
                "pid": found.pid,
                "restarts": found.restarts,
                "unit": found.unit,
            }
            for found in units.instances(host, process)
        ],
    }


def read_journal(host: Host, request: Request) -> dict[str, object]:
    """The verb `journal`: the records after number `after`, and whether the whole chain holds."""
    after = request.integer("after", 0, minimum=0, maximum=2**53)
    limit = request.integer("limit", 1000, minimum=1, maximum=10000)
    path = journal.path(host, request.app())
    verdict = journal.verify(path.read_bytes() if path.exists() else b"")
    newer = [entry for entry in verdict.entries if int(str(entry["seq"])) > after]
    return {
        "intact": verdict.problem is None,
        "problem": verdict.problem,
        "entries": newer[:limit],
    }
