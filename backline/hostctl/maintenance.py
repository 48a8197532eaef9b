"""`hostctl maintenance`: this edge shows listeners a page instead of the application, or no longer.

In force with the next request, without a reload, over reloads and reboots: the map file comes first,
which HAProxy reads when it starts, the running HAProxy second. Health checks of the hosts go on. It
belongs to no app and no run: no lease, and in journald only; who switched it is kept beside.
"""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, unquote

from . import files, haproxy, record
from .errors import HostctlError, UsageError
from .host import Host
from .names import Request

MAP = "/etc/haproxy/maintenance.map"  # named by roles/edge
KEPT = "/var/lib/backline/maintenance.json"
LOCK = "/var/lib/backline/maintenance.lock"
RETRY = "120"
PAGE_LIMIT = 12_000  # HAProxy's buffers hold 16 KiB, headers included
WHO = "who"
SAFE = "/:.,_~(){}=-"

Entries = dict[str, str]


def maintenance(host: Host, request: Request) -> dict[str, object]:
    """The verb `maintenance`. `on` and `off` return {on, already}; `show` {on, after_reload, kept, page}.

    `page` is HTML on one line; without it the role's own is shown. `until`: seconds since the epoch, for
    Retry-After. Raises `UsageError`, or `HostctlError` (no_balancer, balancer_failed or _refused, busy).
    """
    action = request.choice("action", ("on", "off", "show"))
    if action == "show":
        return _show(host)
    wanted = _wanted(request) if action == "on" else {"site": "off"}
    with files.locked(host, host.path(LOCK)):
        already = load(host) == wanted and _does(host, wanted)
        if not already:
            record.announce(host, request, "done", action=action, until=request.fields.get("until"))
            _save(host, wanted)
            _keep(host, request, action == "on")
        _settle(host, wanted)
    return {"on": action == "on", "already": already}


def _show(host: Host) -> dict[str, object]:
    there, stored, kept = live(host), load(host), {}
    # edge-maintenance, by hand on the edge, leaves no word of who it was.
    if there.get("site") == "on" and WHO in stored:
        try:
            kept = json.loads(host.path(KEPT).read_text())
        except (OSError, ValueError):
            kept = {}
    return {
        "on": there.get("site") == "on",
        "after_reload": stored.get("site") == "on",
        "kept": kept,
        "page": unquote(there["page"]) if "page" in there else None,
    }


def _wanted(request: Request) -> Entries:
    """The entries of the map, none of which has a space in it, or anything that HAProxy's CLI reads."""
    entries = {"site": "on", WHO: quote(record.actor(request) or "?", safe=SAFE)}
    if request.has("until"):
        until = request.seconds("until", 0, minimum=0, maximum=2**40)
        entries["retry"] = quote(formatdate(until, usegmt=True), safe=SAFE)
    else:
        entries["retry"] = RETRY
    if request.has("page"):
        entries["page"] = _page(request.fields["page"])
    return entries


def _page(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UsageError(
            "bad_field", "maintenance: page must be HTML on one line; nothing was changed"
        )
    encoded = quote(value, safe=SAFE)
    if len(encoded) > PAGE_LIMIT:
        raise UsageError(
            "too_large",
            f"maintenance: page has {len(encoded)} bytes, encoded, {PAGE_LIMIT} are allowed",
            "a shorter message",
        )
    return encoded


def load(host: Host) -> Entries:
    """The map as HAProxy will read it when it starts."""
    try:
        text = host.path(MAP).read_text("utf-8", "replace")
    except FileNotFoundError:
        raise HostctlError(
            "no_balancer", f"{MAP} is not there", "is it an edge? run playbooks/edge.yml"
        ) from None
    return _parsed(line.split() for line in text.splitlines())


def live(host: Host) -> Entries:
    """The map of the running HAProxy."""
    lines = haproxy.ask(host, f"show map {MAP}").splitlines()
    return _parsed(line.split()[1:] for line in lines)


def _parsed(rows: Any) -> Entries:
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _save(host: Host, wanted: Entries) -> None:
    """Owner and mode stay: HAProxy's user reads it."""
    path = host.path(MAP)
    there = path.stat()
    text = "".join(f"{key} {value}\n" for key, value in wanted.items())
    owner = (there.st_uid, there.st_gid)
    files.write_atomic(path, text.encode(), there.st_mode & 0o777, owner=owner)


def _keep(host: Host, request: Request, on: bool) -> None:
    path = host.path(KEPT)
    if not on:
        files.remove(path)
        return
    kept = {
        "since": host.wall(),
        "actor": record.actor(request),
        "origin": record.origin(),
        "message": request.text("message"),
        "until": request.fields.get("until"),
    }
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write_atomic(path, json.dumps(kept).encode() + b"\n")


def _settle(host: Host, wanted: Entries) -> None:
    """Return when the running HAProxy does as the file says: also the one that a reload is about to make."""

    def told() -> bool:
        pid = haproxy.worker(host)
        _tell(host, wanted)
        return _does(host, wanted) and haproxy.is_current(host, pid)

    haproxy.settle(host, told)


def _does(host: Host, wanted: Entries) -> bool:
    """Whether the running HAProxy does as wanted; one that is just being reloaded does not yet."""
    try:
        return live(host) == wanted
    except HostctlError as error:
        if error.code == "balancer_failed":
            return False
        raise


def _tell(host: Host, wanted: Entries) -> None:
    """The switch comes last when it is put on, and first when it is put off."""
    there = live(host)
    names = [*sorted({*there, *wanted} - {"site"}), "site"]
    for name in names if wanted["site"] == "on" else reversed(names):
        if there.get(name) == wanted.get(name):
            continue
        if name in there:
            haproxy.ask(host, f"del map {MAP} {name}")
        if name in wanted:
            said = haproxy.ask(host, f"add map {MAP} {name} {wanted[name]}").strip()
            if said:
                raise HostctlError("balancer_refused", f"HAProxy says: {said[:200]}")
