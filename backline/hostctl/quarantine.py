"""`hostctl quarantine`: the hosts that deploys leave out, known to every host of the app.

A host that failed a deploy cannot be trusted to keep that fact itself, and the controller's
machine may be another one next time: so each host knows of all of them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from . import files, record
from .errors import HostctlError, UsageError
from .host import Host
from .names import Request, is_release

LIMIT = 128 * 1024
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")
FIELDS = {"why", "release", "run", "at"}

Hosts = dict[str, Any]


def load(host: Host, app: str) -> Hosts:
    """The quarantined hosts of an app: {NAME: {"why", "release", "run", "at"}}."""
    path = host.state(app) / "quarantine.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HostctlError(
            "state_damaged", f"{path} is not readable; nothing was changed", "move it away"
        )
    return found


def quarantine(host: Host, request: Request) -> dict[str, object]:
    """The verb `quarantine`: add, remove or set hosts. Returns {quarantine, already}."""
    action = request.choice("action", ("add", "remove", "set"))
    named = request.mapping("hosts", LIMIT)
    _check(named, described=action != "remove")
    with record.fenced(host, request):
        known = load(host, request.app())
        new = {
            "add": {**known, **named},
            "remove": {name: entry for name, entry in known.items() if name not in named},
            "set": named,
        }[action]
        if new == known:
            return {"quarantine": known, "already": True}
        record.change(host, request, "done", action=action, hosts=sorted(named))
        text = json.dumps(new, indent=1, sort_keys=True) + "\n"
        files.write_atomic(host.state(request.app()) / "quarantine.json", text.encode())
    return {"quarantine": new, "already": False}


def _check(hosts: Hosts, described: bool) -> None:
    """Raise `UsageError` unless every name and, where they count, every description is sound."""
    for name, entry in hosts.items():
        if not HOST.fullmatch(name):
            raise UsageError("bad_field", f"quarantine: {name[:80]!r} is no name of a host")
        if described and not _is_description(entry):
            raise UsageError(
                "bad_field",
                f'quarantine: {name} must be {{"why": text, "release": ID, "run": ID, "at": time}}',
            )


def _is_description(entry: object) -> bool:
    """True for an object with `why` and, each optional or null, release, run and at."""
    if not isinstance(entry, dict) or not set(entry) <= FIELDS:
        return False
    release, run, at = (entry.get(key) for key in ("release", "run", "at"))
    return (
        isinstance(entry.get("why"), str)
        and (release is None or is_release(release))
        and (run is None or isinstance(run, str))
        and (at is None or isinstance(at, (int, float)))
    )
