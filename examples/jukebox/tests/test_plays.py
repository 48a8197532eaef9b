"""A play is recorded once, whatever broker, worker and database do."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from uuid import uuid4

import pytest
from celery.exceptions import Retry
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.http import HttpResponseBase
from django.test import Client
from django.utils import timezone

from music import plays, tasks
from music.models import Play, Track
from tests.conftest import Sent


@pytest.fixture
def event(listener: User, track: Track) -> plays.Event:
    return plays.Event.now(uuid4(), listener.pk, track.pk, timezone.now())


@pytest.mark.django_db
def test_a_job_delivered_twice_is_one_play(event: plays.Event, listener: User) -> None:
    for _ in range(2):
        tasks.record_play.apply(kwargs=asdict(event), throw=True)
    play = Play.objects.get()
    assert (str(play.id), play.listener, play.release) == (event.play, listener, event.release)
    assert play.started_at.isoformat() == event.started_at


@pytest.mark.django_db(transaction=True)
def test_a_job_delivered_to_two_workers_at_once_is_one_play(event: plays.Event) -> None:
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            together.wait(5)
            plays.record(event)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert failures == []
    assert Play.objects.count() == 1


@pytest.mark.django_db
def test_a_job_of_the_next_release_is_understood(event: plays.Event) -> None:
    tasks.record_play.apply(kwargs={**asdict(event), "mood": "blue"}, throw=True)
    assert Play.objects.count() == 1


@pytest.mark.django_db
def test_a_job_of_the_release_before_is_understood(event: plays.Event) -> None:
    old = asdict(event)
    del old["release"]
    tasks.record_play.apply(kwargs=old, throw=True)
    assert Play.objects.get().release == ""


@pytest.mark.django_db(transaction=True)
def test_a_play_of_nobody_is_dropped_not_retried_for_ever(event: plays.Event) -> None:
    assert plays.record(replace(event, listener=10**6)) is False
    assert plays.record(replace(event, track=10**6)) is False
    assert not Play.objects.exists()


def test_a_job_waits_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(event: plays.Event) -> bool:
        raise OperationalError("the database is away")

    monkeypatch.setattr(plays, "record", away)
    event = plays.Event(str(uuid4()), 1, 1, timezone.now().isoformat())
    pauses = []
    for tries in (0, 3, 9):
        tasks.record_play.push_request(
            retries=tries, called_directly=False, kwargs=asdict(event), args=()
        )
        with pytest.raises(Retry) as caught:
            tasks.record_play.run(**asdict(event))
        pauses.append(caught.value.when)
        tasks.record_play.pop_request()
    assert pauses == [1, 8, 60]


@pytest.mark.django_db
def test_a_dead_broker_costs_one_listener_a_moment_and_no_play(
    browser: Client, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tries = [0.0], []

    def send(event: plays.Event) -> None:
        tries.append(event.play)
        raise ConnectionRefusedError("broker1 is away")

    monkeypatch.setattr(plays, "publisher", plays.Publisher(send, clock=lambda: now[0]))
    for _ in range(3):
        assert browser.get(f"/tracks/{track.slug}/stream").status_code == 200
    assert len(tries) == 1, "only the first request waits for the broker"
    assert Play.objects.count() == 3, "plays are recorded all the same"
    now[0] += plays.REST
    browser.get(f"/tracks/{track.slug}/stream")
    assert len(tries) == 2, "after a rest the broker is tried again"


def test_playing_goes_on_without_broker_and_database(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(event: plays.Event) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(plays, "publisher", plays.Publisher(away))
    monkeypatch.setattr(plays, "record", away)
    plays.announce(plays.Event(str(uuid4()), 1, 1, timezone.now().isoformat()))
    assert "play lost" in caplog.text


@pytest.mark.django_db
def test_listeners_see_their_own_plays(browser: Client, event: plays.Event, track: Track) -> None:
    other = User.objects.create_user("eve")
    alien = Track.objects.exclude(pk=track.pk)[0]
    plays.record(event)
    plays.record(replace(event, play=str(uuid4()), listener=other.pk, track=alien.pk))
    page = browser.get("/plays/").text
    assert track.title in page
    assert alien.title not in page


@pytest.mark.django_db
def test_nothing_played_yet(browser: Client) -> None:
    assert "Nothing yet" in browser.get("/plays/").text


@pytest.mark.django_db
def test_plays_are_for_who_signed_in(visitor: Client) -> None:
    assert visitor.get("/plays/")["Location"] == "/sign-in/?next=/plays/"


class TestBeginning:
    """POST /plays/: a player says that a song begins."""

    @pytest.fixture
    def token(self, browser: Client) -> str:
        """What a form of our own carries."""
        browser.get("/sign-up/")
        browser.logout()
        browser.get("/sign-in/")
        return browser.cookies["csrftoken"].value

    def say(
        self, client: Client, token: str, accept: str = "*/*", **fields: str
    ) -> HttpResponseBase:
        headers = {"x-csrftoken": token, "referer": "https://jukebox.example/", "accept": accept}
        return client.post("/plays/", fields, headers=headers)

    @pytest.fixture
    def player(self, browser: Client, listener: User, token: str) -> Client:
        browser.force_login(listener)
        return browser

    @pytest.mark.django_db
    def test_it_is_announced_to_a_worker_once_for_each_time_it_is_said(
        self, player: Client, listener: User, token: str, track: Track, sent: Sent
    ) -> None:
        play = str(uuid4())
        for _ in range(2):
            answer = self.say(player, token, track=track.slug, play=play)
            assert (answer.status_code, answer.json()) == (202, {"play": play})
        assert [(event.play, event.listener, event.track) for event in sent] == [
            (play, listener.pk, track.pk)
        ] * 2
        for event in sent:
            tasks.record_play.apply(kwargs=asdict(event), throw=True)
        assert Play.objects.filter(pk=play).count() == 1

    @pytest.mark.django_db
    @pytest.mark.parametrize("play", ["", "1", "x" * 500, "\0", "'; drop table"])
    def test_a_name_that_is_no_uuid_is_refused(
        self, player: Client, token: str, track: Track, sent: Sent, play: str
    ) -> None:
        assert self.say(player, token, track=track.slug, play=play).status_code == 400
        assert self.say(player, token, track=track.slug).status_code == 400
        assert sent == []

    @pytest.mark.django_db
    @pytest.mark.parametrize("slug", ["no-such-song", "", "\0", "../x", "x" * 500])
    def test_no_such_song(
        self, player: Client, token: str, track: Track, sent: Sent, slug: str
    ) -> None:
        assert self.say(player, token, track=slug, play=str(uuid4())).status_code == 404
        assert sent == []

    @pytest.mark.django_db
    def test_strangers_are_turned_away(
        self, browser: Client, token: str, track: Track, sent: Sent
    ) -> None:
        fields = {"track": track.slug, "play": str(uuid4())}
        assert self.say(browser, token, **fields).status_code == 401
        led = self.say(browser, token, accept="text/html", **fields)
        assert (led.status_code, led["Location"]) == (302, "/sign-in/?next=/plays/")
        assert sent == []

    @pytest.mark.django_db
    def test_a_form_from_elsewhere_is_refused(
        self, player: Client, track: Track, sent: Sent
    ) -> None:
        answer = self.say(player, "x" * 64, track=track.slug, play=str(uuid4()))
        assert answer.status_code == 403
        assert sent == []
