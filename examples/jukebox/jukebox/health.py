"""/healthz (this process answers), /readyz (so do the things it needs) and /version."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

from jukebox import release

logger = logging.getLogger(__name__)

#: Seconds /readyz may take; the release's manifest allows one more.
DEADLINE = 4.0


def ask_database() -> None:
    """A fresh connection that takes writes, and one question."""
    fresh = connection.copy()
    try:
        with fresh.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        fresh.close()


def ask_broker() -> None:
    """A fresh connection, signed in."""
    from jukebox import broker

    broker.ping()


class Check:
    """One dependency, asked in a thread so that a frozen one can't hold a request.

    Requests that come while a question is open share it: a storm of checks asks once at a time.
    """

    def __init__(self, name: str, ask: Callable[[], None]) -> None:
        self.name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._problem: str | None = None

    def start(self) -> threading.Thread:
        """Begins to ask, unless somebody else just did."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            return self._thread

    def result(self, thread: threading.Thread, until: float) -> str:
        """ "ok" or what is wrong, at the latest at `until` (monotonic seconds)."""
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            logger.warning("not ready", extra={"dependency": self.name, "problem": "no answer"})
            return f"no answer within {DEADLINE:g} s"
        return self._problem or "ok"

    def _run(self) -> None:
        try:
            self._ask()
        except Exception as error:
            # The log names hosts and causes; the answer, which anybody may read, doesn't.
            detail = str(error).strip().replace("\n", " ")
            logger.warning("not ready", extra={"dependency": self.name, "problem": detail})
            self._problem = f"unreachable ({type(error).__name__})"
        else:
            self._problem = None


CHECKS = [Check("database", ask_database), Check("broker", ask_broker)]


def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as this process can answer at all."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when every dependency answers, else 503 naming those that don't."""
    until = time.monotonic() + DEADLINE
    asked = [(check, check.start()) for check in CHECKS]
    results = {check.name: check.result(thread, until) for check, thread in asked}
    ready = all(result == "ok" for result in results.values())
    return JsonResponse({"ready": ready, "checks": results}, status=200 if ready else 503)


def version(request: HttpRequest) -> HttpResponse:
    """The release that answers."""
    return JsonResponse(release.describe())


PAGES = {"/healthz": healthz, "/readyz": readyz, "/version": version}


class HealthMiddleware:
    """Answers the three pages before host names, sessions or the database come into play."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        page = PAGES.get(request.path_info)
        if page is None:
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = page(request)
        response["Cache-Control"] = "no-store"
        return response
