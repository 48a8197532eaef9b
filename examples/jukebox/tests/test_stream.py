"""The gate in front of the audio files, and what counts as a play."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings

from music.models import Track
from tests.conftest import Sent

pytestmark = pytest.mark.django_db
ADDRESS = "/tracks/house-lights-down/stream"


def test_a_listener_is_let_through_to_nginx(browser: Client, track: Track, sent: Sent) -> None:
    answer = browser.get(ADDRESS)
    assert answer.status_code == 200
    assert answer["X-Accel-Redirect"] == "/_media/house-lights-down.wav"
    assert answer["Content-Type"] == "audio/wav"
    assert answer["Cache-Control"] == "private, no-cache"
    assert answer.content == b""


def test_the_prefix_is_the_environments(browser: Client, track: Track, sent: Sent) -> None:
    with override_settings(MEDIA_PREFIX="/elsewhere/"):
        answer = browser.get(ADDRESS)
    assert answer["X-Accel-Redirect"] == "/elsewhere/house-lights-down.wav"


def test_head_is_answered_and_is_no_play(browser: Client, track: Track, sent: Sent) -> None:
    answer = browser.head(ADDRESS)
    assert answer.status_code == 200
    assert "X-Accel-Redirect" in answer
    assert sent == []


def test_anonymous_browsers_are_led_to_the_door(visitor: Client, track: Track, sent: Sent) -> None:
    answer = visitor.get(ADDRESS, headers={"accept": "text/html,*/*"})
    assert answer.status_code == 302
    assert answer["Location"] == f"/sign-in/?next={ADDRESS}"
    assert "X-Accel-Redirect" not in answer


@pytest.mark.parametrize("slug", ["house-lights-down", "no-such-song"])
def test_anonymous_programs_are_refused(
    visitor: Client, track: Track, sent: Sent, slug: str
) -> None:
    answer = visitor.get(f"/tracks/{slug}/stream", headers={"accept": "*/*"})
    assert answer.status_code == 401
    assert "X-Accel-Redirect" not in answer
    assert sent == []


def test_who_was_removed_hears_no_more(
    browser: Client, listener: User, track: Track, sent: Sent
) -> None:
    User.objects.filter(pk=listener.pk).update(is_active=False)
    assert browser.get(ADDRESS).status_code == 401


def test_posting_is_not_a_way_in(browser: Client, track: Track, sent: Sent) -> None:
    assert browser.post(ADDRESS).status_code in (403, 405)


@pytest.mark.parametrize(
    "address",
    [
        "/tracks/../../etc/passwd/stream",
        "/tracks/..%2f..%2fetc%2fpasswd/stream",
        "/tracks/%2e%2e/stream",
        "/tracks/house-lights-down.wav/stream",
        "/tracks/house-lights-down%00/stream",
        "/tracks/house-lights-down%0d%0aX-Accel-Redirect:%20%2fetc/stream",
        "/_media/house-lights-down.wav",
    ],
)
def test_no_path_leads_out(browser: Client, track: Track, sent: Sent, address: str) -> None:
    answer = browser.get(address)
    assert answer.status_code == 404
    assert "X-Accel-Redirect" not in answer


@pytest.mark.parametrize("asked", [None, "bytes=0-", "bytes=0-65535", "bytes = 0-"])
def test_a_beginning_is_a_play(
    browser: Client, listener: User, track: Track, sent: Sent, asked: str | None
) -> None:
    browser.get(ADDRESS, headers={"range": asked} if asked else {})
    assert [(event.listener, event.track) for event in sent] == [(listener.pk, track.pk)]
    assert sent[0].release == settings.RELEASE


@pytest.mark.parametrize("asked", ["bytes=0-0", "bytes=0-1", "bytes=4096-", "bytes=-500"])
def test_a_probe_or_a_seek_is_not(browser: Client, track: Track, sent: Sent, asked: str) -> None:
    assert browser.get(ADDRESS, headers={"range": asked}).status_code == 200
    assert sent == []


def test_the_page_names_the_play(browser: Client, track: Track, sent: Sent) -> None:
    play = str(uuid4())
    for _ in range(3):
        browser.get(f"{ADDRESS}?play={play}")
    assert {event.play for event in sent} == {play}


@pytest.mark.parametrize("play", ["", "1", "x" * 500, "'; drop table"])
def test_a_name_that_is_no_uuid_is_refused(
    browser: Client, track: Track, sent: Sent, play: str
) -> None:
    assert browser.get(ADDRESS, {"play": play}).status_code == 400
    assert sent == []
