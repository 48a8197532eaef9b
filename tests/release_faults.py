"""What broken releases do; releases.py copies this file into them as jukebox/fault.py.

Each function named after a kind is a middleware of Django's, just within the one that names the
release, so that the bad answers carry X-Release, too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: These stay as they are, unless a kind says otherwise.
HEALTH_PAGES = ("/healthz", "/readyz", "/version")
#: "For ever": no test waits that long, and nothing of it outlives a test by much.
HANGS_SECONDS = 600.0
SLOW_SECONDS = 1.5
SOURS_AFTER_SECONDS = 20.0
#: A process that leaks ends itself here, on machines where nobody else would end it.
MOST_MEGABYTES = 300
MEGABYTES_PER_SECOND = 25

Answer = Callable[[Any], Any]
STARTED = time.monotonic()


def _say(status: int, text: str = "broken on purpose") -> Any:
    from django.http import HttpResponse

    return HttpResponse(f"{text}\n", status=status, content_type="text/plain")


def errors(get_response: Answer) -> Answer:
    """Pages answer 500."""
    return lambda request: get_response(request) if request.path_info in HEALTH_PAGES else _say(500)


def hangs(get_response: Answer) -> Answer:
    """Pages never answer."""

    def middleware(request: Any) -> Any:
        if request.path_info not in HEALTH_PAGES:
            time.sleep(HANGS_SECONDS)
        return get_response(request)

    return middleware


def slow(get_response: Answer) -> Answer:
    """Pages take longer, and are right."""

    def middleware(request: Any) -> Any:
        if request.path_info not in HEALTH_PAGES:
            time.sleep(SLOW_SECONDS)
        return get_response(request)

    return middleware


def unready(get_response: Answer) -> Answer:
    """/readyz says 503; pages are fine."""
    return lambda request: _say(503) if request.path_info == "/readyz" else get_response(request)


def sours(get_response: Answer) -> Answer:
    """All is well until some time after the start: then /readyz says 503 and pages answer 500."""

    def middleware(request: Any) -> Any:
        if time.monotonic() - STARTED > SOURS_AFTER_SECONDS:
            if request.path_info == "/readyz":
                return _say(503)
            if request.path_info not in HEALTH_PAGES:
                return _say(500)
        return get_response(request)

    return middleware


def spoils(get_response: Answer) -> Answer:
    """All is well until there is a file `spoiled` in the application's home: nobody could foresee it."""
    spoiled = Path(os.environ.get("HOME", "/"), "spoiled")

    def middleware(request: Any) -> Any:
        if spoiled.exists():
            if request.path_info == "/readyz":
                return _say(503, "covers: no answer")
            if request.path_info not in HEALTH_PAGES:
                return _say(500, "covers: no answer")
        return get_response(request)

    return middleware


def leak() -> None:
    """Starts to eat memory, and ends this process when it has eaten its fill."""
    threading.Thread(target=_eat, daemon=True).start()


def _eat() -> None:
    eaten: list[bytes] = []
    while len(eaten) < MOST_MEGABYTES:
        eaten.append(os.urandom(1_000_000))  # written to, so that it is really there
        time.sleep(1 / MEGABYTES_PER_SECOND)
    os._exit(9)
