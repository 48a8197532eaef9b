"""Every answer names the release that gave it."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client

from music import views
from music.models import Track


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/", 200),
        ("/version", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/plays/", 302),
        ("/tracks/house-lights-down/stream", 401),
        ("/no-such-page", 404),
        ("/static/music/jukebox.css", 200),
    ],
)
def test_each_page(visitor: Client, track: Track, address: str, status: int) -> None:
    answer = visitor.get(address)
    assert (answer.status_code, answer["X-Release"]) == (status, settings.RELEASE)
    answer.close()  # the static file


@pytest.mark.django_db
def test_refusals(visitor: Client, track: Track) -> None:
    assert visitor.post("/plays/")["X-Release"] == settings.RELEASE
    stranger = visitor.get("/", headers={"host": "elsewhere.example"})
    assert (stranger.status_code, stranger["X-Release"]) == (400, settings.RELEASE)


def test_a_page_that_breaks(visitor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(views.Track.objects, "annotate", broken)
    visitor.raise_request_exception = False
    answer = visitor.get("/")
    assert (answer.status_code, answer["X-Release"]) == (500, settings.RELEASE)
