"""Which release this is, and addresses of static files that change when the file does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse


def describe() -> dict[str, str]:
    """What /version answers."""
    return {"app": "jukebox", "release": settings.RELEASE, "version": settings.VERSION}


def context(request: HttpRequest) -> dict[str, str]:
    """The release, for the foot of each page."""
    return {"release": settings.RELEASE, "version": settings.VERSION}


def named(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Adds the release to every answer: whoever gets a bad one can tell which release gave it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["X-Release"] = settings.RELEASE
        return response

    return middleware


@cache
def _digest(name: str) -> str:
    path = finders.find(name)
    return hashlib.sha256(Path(str(path)).read_bytes()).hexdigest()[:8] if path else ""


class VersionedStaticFiles(StaticFilesStorage):
    """`jukebox.css?v=1a2b3c4d`.

    The path stays the same, so that during a rolling deploy a page of the new release finds its
    style sheet on a host that still runs the old one.
    """

    def url(self, name: str | None, *arguments: object) -> str:
        digest = _digest(name) if name else ""
        address: str = super().url(name, *arguments)
        return f"{address}?v={digest}" if digest else address
