"""A real PostgreSQL, a catalogue in it, and listeners."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from music import plays
from music.models import Track

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "a long enough password"


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Starts the database before Django makes its test database in it."""
    settings.CLUSTER.start()


def pytest_unconfigure() -> None:
    """Stops the database, whatever happened."""
    settings.CLUSTER.stop()


@pytest.fixture
def track(db: None) -> Track:
    """A song of the catalogue that the release carries."""
    call_command("loadcatalogue", str(ROOT / "catalogue.json"), stdout=StringIO())
    return Track.objects.get(slug="house-lights-down")


@pytest.fixture
def listener(db: None) -> User:
    """Somebody with an account."""
    return User.objects.create_user("ada", password=PASSWORD)


@pytest.fixture
def visitor() -> Client:
    """A browser that has not signed in, behind the edge's TLS, with CSRF enforced."""
    return Client(
        enforce_csrf_checks=True,
        headers={"host": "jukebox.example", "x-forwarded-proto": "https"},
    )


@pytest.fixture
def browser(visitor: Client, listener: User) -> Client:
    """The same, signed in."""
    visitor.force_login(listener)
    return visitor


class Sent(list[plays.Event]):
    """What was published."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    """Catches what is published, instead of sending it."""
    caught = Sent()
    monkeypatch.setattr(plays, "publisher", plays.Publisher(caught.append))
    yield caught
