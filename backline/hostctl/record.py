"""One change by one run: under the app's lock, with a live lease, written to both journals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from . import files, journal
from .errors import HostctlError
from .host import Host
from .names import Request


@contextlib.contextmanager
def lock(host: Host, app: str) -> Iterator[None]:
    """The app's lock. Held for moments only, so that a renewal never waits for a long verb."""
    with files.locked(host, host.state(app) / "lock"):
        yield


@contextlib.contextmanager
def fenced(host: Host, request: Request) -> Iterator[None]:
    """The app's lock, once the lease of the request's run was found alive.

    A takeover needs the same lock: while this is held, nobody else can become the holder.
    """
    from .lease import guard

    with lock(host, request.app()):
        guard(host, request)
        yield


def change(host: Host, request: Request, event: str, **what: object) -> None:
    """Write down a change: `begin` before it, `done` or `failed` after it.

    The caller holds the app's lock. Who, from where and why come from the request.
    """
    entry = {**_who(request, event), **what}
    journal.append(host, request.app(), entry)
    said = f"{request.verb} {event} {request.app()} {_words(what)}"
    journal.announce(host, said.rstrip(), entry)


def announce(host: Host, request: Request, event: str, **what: object) -> None:
    """Tell journald alone of a change that belongs to the host and not to an app."""
    entry = {**_who(request, event), **what}
    journal.announce(host, f"{request.verb} {event} {_words(what)}".rstrip(), entry)


def _words(what: Mapping[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in what.items())


def _who(request: Request, event: str) -> dict[str, object]:
    """The part of a record that says who asked for what, and after which record of its own."""
    head = request.head()
    return {
        "app": request.app() if request.has("app") else None,
        "verb": request.verb,
        "event": event,
        "run": request.run() if request.has("run") else None,  # a timer belongs to no run
        "token": request.token() if request.has("token") else None,
        "actor": actor(request),
        "origin": origin(),
        "message": request.text("message"),
        **({"controller": head} if head else {}),
    }


def begun(host: Host, request: Request, **what: object) -> bool:
    """True when this run wrote down `begin` of the same work before and was killed since.

    Then that record stands for the next try too: the journal tells of each piece of work once.
    """
    for entry in journal.newest(host, request.app(), *map(str, what.values())):
        if entry.get("verb") in ("start", "stop", "retire") and what.items() <= entry.items():
            found = entry["verb"], entry.get("event"), entry.get("run")
            return found == (request.verb, "begin", request.fields.get("run"))
    return False


def begin(host: Host, request: Request, **what: object) -> None:
    """`change` for the begin of a long verb, unless that is written down already."""
    if not begun(host, request, **what):
        change(host, request, "begin", **what)


def outcome(host: Host, request: Request, event: str, **what: object) -> None:
    """`change` for the end of a long verb: takes the lock itself and never hides an error."""
    with contextlib.suppress(HostctlError, OSError), lock(host, request.app()):
        change(host, request, event, **what)


def refusal(host: Host, request: Request, error: HostctlError) -> None:
    """Tell journald of a refused or failed request; the journal holds changes only."""
    fields = {
        "app": request.fields.get("app"),
        "verb": request.verb,
        "run": request.fields.get("run"),
        "actor": request.fields.get("actor"),
        "origin": origin(),
        "error": error.code,
    }
    journal.announce(host, f"{request.verb} refused: {error.message}", fields, priority=4)


def actor(request: Request) -> str:
    """Who asks: as the controller says, else the user that sudo knows."""
    return request.text("actor") or os.environ.get("SUDO_USER", "")


def origin() -> str:
    """Where the request came from: the address of the SSH client, when sudo lets it through."""
    return os.environ.get("SSH_CONNECTION", "").split(" ")[0]
