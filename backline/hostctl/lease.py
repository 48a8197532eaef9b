"""The lease of an app on this host, and its fence.

One run at a time may change an app here. A lease lives `lifetime` seconds and is renewed; it
carries a token that only ever grows. The fence is the highest token ever accepted: whoever comes
with an older one slept past the end of its lease and is refused, for good.

Time is counted from boot, so that setting the clock neither kills nor keeps a lease. Across a
reboot that count is lost: then the wall clock decides, and no lease outlives the boot by more
than its lifetime.
"""

from __future__ import annotations

import json
from typing import Any

from . import files, record, runs, settings
from .errors import HostctlError, LeaseHeld, Refused
from .host import Host
from .names import Request

LIFETIME = 60.0

Lease = dict[str, Any]


def read_fence(host: Host, app: str) -> int:
    """The highest token ever accepted here; 0 when there was none."""
    path = host.state(app) / "fence"
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
    except ValueError:
        raise HostctlError(
            "state_damaged",
            f"{path} does not hold a number; nothing was changed",
            f"write the highest token that any run used for {app} into it",
        ) from None


def read_lease(host: Host, app: str) -> Lease | None:
    """The live lease, with `expires_in` (seconds), or None."""
    try:
        stored = json.loads((host.state(app) / "lease.json").read_text())
        left = _seconds_left(host, stored)
        run, token, holder = stored["run"], int(stored["token"]), stored["holder"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # damaged: the fence still refuses every older token
    if left <= 0:
        return None
    lifetime = stored["lifetime"]
    return {
        "run": run,
        "token": token,
        "holder": holder,
        "lifetime": lifetime,
        "expires_in": round(left, 3),
    }


def _seconds_left(host: Host, stored: Lease) -> float:
    if stored["boot_id"] == host.boot_id():
        return float(stored["expires_boottime"]) - host.boottime()
    return min(
        float(stored["expires_at"]) - host.wall(), float(stored["lifetime"]) - host.boottime()
    )


def guard(host: Host, request: Request) -> None:
    """Refuse unless the request's run holds the live lease with its token.

    The caller holds the app's lock, so that the answer stays true while it works.
    Raises `Refused` (stale_token, lease_required) or `LeaseHeld`.
    """
    app, run, token = request.app(), request.run(), request.token()
    fence = read_fence(host, app)
    if token < fence:
        raise stale(app, token, fence)
    lease = read_lease(host, app)
    if lease is None:
        raise Refused(
            "lease_required",
            f"run {run} holds no lease of {app} here (it may have expired); nothing was changed",
            f"take the lease again with a token above {fence}",
            fence=fence,
        )
    if lease["run"] != run or lease["token"] != token:
        raise held(app, lease)


def stale(app: str, token: int, fence: int) -> Refused:
    """The refusal of a token that is older than the fence."""
    return Refused(
        "stale_token",
        f"token {token} of {app} is out of date here: {fence} was used since; nothing was changed",
        "another run took over; look at `fab status` before doing anything else",
        fence=fence,
    )


def held(app: str, lease: Lease) -> LeaseHeld:
    """The refusal while another run's lease lives."""
    seconds = lease["expires_in"]
    return LeaseHeld(
        "lease_held",
        f"{lease['holder'] or lease['run']} is working on {app} here (run {lease['run']})",
        f"wait for it, or {seconds:.0f} s for its lease to run out",
        holder=lease["holder"],
        run=lease["run"],
        expires_in=seconds,
    )


def lease(host: Host, request: Request) -> dict[str, object]:
    """The verb `lease`: take, renew, release or show. Returns {lease, fence, wanted}, and for `take`
    the app's status as it is from then on: whoever holds the lease needs not ask again."""
    app = request.app()
    action = request.choice("action", ("take", "renew", "release", "show"))
    if action == "show":
        return _answer(host, app)
    request.run(), request.token()
    with record.lock(host, app):
        {"take": _take, "renew": _renew, "release": _release}[action](host, request)
        answer = _answer(host, app)
    if action == "take" and host.path(f"{settings.CONFIGURATION}/{app}/app.json").is_file():
        from .facts import status

        answer["status"] = status(host, request)
    return answer


def _answer(host: Host, app: str) -> dict[str, object]:
    return {
        "lease": read_lease(host, app),
        "fence": read_fence(host, app),
        "wanted": runs.wanted(host, app),
    }


def _take(host: Host, request: Request) -> None:
    app, run, token = request.app(), request.run(), request.token()
    fence, live = read_fence(host, app), read_lease(host, app)
    holder = request.text("holder", request.text("actor"))
    if live is not None and (live["run"], live["holder"]) != (run, holder):
        raise held(app, live)
    kept = runs.taken(host, request)
    again = live is not None and token == live["token"]
    if not again and token <= fence:
        raise stale(app, token, fence)
    if kept or not again:
        more = {"replace": True} if request.boolean("replace") else {}
        record.change(host, request, "take", holder=holder, plan=request.has("plan"), **more)
    if not again:
        # The fence first: killed in between, the token is burnt, the next try needs a higher one.
        files.write_atomic(host.state(app) / "fence", f"{token}\n".encode())
    if kept:
        runs.save(host, app, kept)
    _write(host, request, holder)


def _renew(host: Host, request: Request) -> None:
    guard(host, request)
    live = read_lease(host, request.app())
    assert live is not None
    _write(host, request, live["holder"], live["lifetime"])


def _release(host: Host, request: Request) -> None:
    app, token = request.app(), request.token()
    fence, live = read_fence(host, app), read_lease(host, app)
    if token < fence:
        raise stale(app, token, fence)
    if live is not None and (live["run"], live["token"]) != (request.run(), token):
        raise held(app, live)
    kept = runs.released(host, request)
    if live is None and kept is None:
        return
    # A lease that ran out is no reason not to say how the run ended: nobody came since.
    record.change(host, request, "release", **({"ended": kept["ended"]} if kept else {}))
    if kept:
        runs.save(host, app, kept)
    if live is not None:
        files.remove(host.state(app) / "lease.json")


def _write(host: Host, request: Request, holder: str, lifetime: float = LIFETIME) -> None:
    lifetime = request.seconds("lifetime", lifetime, minimum=1, maximum=3600)
    stored = {
        "run": request.run(),
        "token": request.token(),
        "holder": holder,
        "lifetime": lifetime,
        "expires_at": host.wall() + lifetime,
        "boot_id": host.boot_id(),
        "expires_boottime": host.boottime() + lifetime,
    }
    files.write_atomic(host.state(request.app()) / "lease.json", json.dumps(stored).encode())
