"""Health pages tell the truth, soon, to whoever asks over the socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from django.db import OperationalError, connection
from django.test import Client

from jukebox import broker, health

BOUND = health.DEADLINE + 1  # what the manifest allows


@pytest.fixture
def socket_client() -> Client:
    """As nginx and hostctl ask: no TLS, no host name of ours."""
    return Client(headers={"host": "localhost"})


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A service that is frozen: it takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh checks, as in a new process: none still waits for the last test's silent server."""
    fresh = [health.Check(check.name, check._ask) for check in health.CHECKS]
    monkeypatch.setattr(health, "CHECKS", fresh)


@pytest.fixture
def database_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def move(port: int) -> None:
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", str(port))

    return move


@pytest.fixture
def broker_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def move(port: int) -> None:
        address = f"amqp://guest:secret-word@127.0.0.1:{port}//"
        monkeypatch.setattr(broker, "app", Celery(broker=address, set_as_current=False))

    return move


def test_alive_without_database_broker_or_host_name(socket_client: Client) -> None:
    # No database mark: pytest-django would fail the test if it asked for one.
    answer = socket_client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")
    assert Client(headers={"host": "anything.example"}).get("/healthz").status_code == 200
    assert socket_client.head("/healthz").status_code == 200
    assert socket_client.post("/healthz").status_code == 405


def test_version(socket_client: Client) -> None:
    answer = socket_client.get("/version")
    assert answer.json() == {
        "app": "jukebox",
        "release": "20261122T190500Z-1a2b3c4",
        "version": "1.2.3",
    }
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.django_db
@pytest.mark.usefixtures("checks")
class TestReady:
    def test_ready(self, socket_client: Client) -> None:
        answer = socket_client.get("/readyz")
        assert answer.json() == {"ready": True, "checks": {"database": "ok", "broker": "ok"}}
        assert answer.status_code == 200

    @pytest.mark.parametrize("kind", ["closed_port", "silent_port"])
    def test_database_away(
        self,
        socket_client: Client,
        database_at: Callable[[int], None],
        kind: str,
        request: pytest.FixtureRequest,
    ) -> None:
        database_at(request.getfixturevalue(kind))
        began = time.monotonic()
        answer = socket_client.get("/readyz")
        assert time.monotonic() - began < BOUND
        assert answer.status_code == 503
        checks = answer.json()["checks"]
        assert checks["broker"] == "ok"
        assert checks["database"].startswith(("unreachable", "no answer"))

    @pytest.mark.parametrize("kind", ["closed_port", "silent_port"])
    def test_broker_away(
        self,
        socket_client: Client,
        broker_at: Callable[[int], None],
        kind: str,
        request: pytest.FixtureRequest,
    ) -> None:
        broker_at(request.getfixturevalue(kind))
        began = time.monotonic()
        answer = socket_client.get("/readyz")
        assert time.monotonic() - began < BOUND
        assert answer.status_code == 503
        checks = answer.json()["checks"]
        assert checks["database"] == "ok"
        assert checks["broker"].startswith(("unreachable", "no answer"))
        assert "secret-word" not in answer.text

    def test_who_connects_during_a_switchover_waits_for_its_end(
        self, database_at: Callable[[int], None], silent_port: int
    ) -> None:
        """As PgBouncer does, which answers once the other database leads: 5 s later at worst."""
        database_at(silent_port)
        began = time.monotonic()
        with pytest.raises(OperationalError, match="timeout"):
            health.ask_database()
        assert time.monotonic() - began > 5

    def test_ready_again_after_an_outage(
        self, socket_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = [True]

        def ask() -> None:
            if away[0]:
                raise ConnectionError("away")

        monkeypatch.setattr(health, "CHECKS", [health.Check("database", ask)])
        assert socket_client.get("/readyz").status_code == 503
        away[0] = False
        assert socket_client.get("/readyz").status_code == 200

    def test_a_storm_of_checks_asks_a_frozen_database_once(
        self, socket_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        monkeypatch.setattr(health, "DEADLINE", 0.05)
        slow = health.Check("database", lambda: asked.append(1) or time.sleep(1))  # type: ignore[func-returns-value]
        monkeypatch.setattr(health, "CHECKS", [slow])
        for _ in range(5):
            assert socket_client.get("/readyz").json()["checks"]["database"].startswith("no answer")
        assert len(asked) == 1
