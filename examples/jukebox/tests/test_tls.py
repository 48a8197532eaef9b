"""With TLS the jukebox talks to the database and the brokers that it was told of, and to nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from jukebox import amqps
from tests.certificates import Authority
from tests.conftest import ROOT
from tests.postgres import Cluster
from tests.settings import ENVIRONMENT

HEADER = b"AMQP\0\0\x09\x01"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ours")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "other")


@pytest.fixture(scope="module")
def database(ours: Authority) -> Iterator[int]:
    """The port of a PostgreSQL that is called `database` and listens with TLS."""
    cluster = Cluster()
    files = [shutil.copy(path, cluster.folder) for path in ours.sign("DNS:database")]
    for file in files:
        if cluster.user:
            shutil.chown(file, cluster.user)
    Path(files[1]).chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    cluster.start(
        *("-c listen_addresses=127.0.0.1", f"-c port={port}", "-c ssl=on"),
        *(f"-c ssl_cert_file={files[0]}", f"-c ssl_key_file={files[1]}"),
    )
    yield port
    cluster.stop()


def told(what: str, **environ: str) -> Any:
    """What a process with this environment prints of itself, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {what}"],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "jukebox.settings", **ENVIRONMENT, **environ},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def options(**environ: str) -> dict[str, Any]:
    """What Django hands to libpq under this environment."""
    found: dict[str, Any] = told(
        "from jukebox.settings import DATABASES as d;"
        "print(json.dumps({'host': d['default']['HOST'], **d['default']['OPTIONS']}))",
        **environ,
    )
    return found


def ask(port: int, ca: Path, host: str = "database") -> bool | None:
    """Whether a connection to the database, as the jukebox makes it, is encrypted."""
    found = options(
        JUKEBOX_DATABASE_HOSTS=host,
        JUKEBOX_DATABASE_HOSTADDR="127.0.0.1",
        JUKEBOX_DATABASE_SSLMODE="verify-full",
        JUKEBOX_DATABASE_SSLROOTCERT=str(ca),
    )
    with psycopg.connect(port=port, user=Cluster.superuser, dbname="postgres", **found) as link:
        row = link.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        return row and row[0]


def test_without_a_word_of_tls_libpq_is_told_none() -> None:
    assert not {"sslmode", "sslrootcert", "hostaddr"} & set(options())


def test_the_database_proves_its_name_through_a_proxy(database: int, ours: Authority) -> None:
    assert ask(database, ours.ca)


def test_a_database_that_proves_nothing_is_refused(
    database: int, ours: Authority, other: Authority
) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        ask(database, other.ca)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        ask(database, ours.ca, host="elsewhere")


class Broker:
    """A broker that shakes hands, notes what it is told first, and hangs up."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.heard = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            with link, contextlib.suppress(OSError):
                safe = self._context.wrap_socket(link, server_side=True)
                self.heard = self.heard or safe.recv(8)
                safe.close()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        # A close alone would not wake the thread.
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


def connect(url: str, ca: Path) -> str:
    """Tries to connect as the jukebox does, to one broker after the other; why it ended."""
    app = Celery(broker=url, set_as_current=False)
    app.conf.broker_use_ssl = amqps.settings(str(ca))
    with app.connection(connect_timeout=2) as link, pytest.raises(Exception) as caught:  # noqa: PT011
        link.ensure_connection(
            max_retries=max(1, len(link.alt)), interval_start=0, interval_step=0, interval_max=0
        )
    return str(caught.value)


def url_of(port: int, host: str = "127.0.0.1") -> str:
    return f"amqps://ada:pw@{host}:{port}/jukebox"


def test_a_broker_that_proves_its_name_is_spoken_to(ours: Authority) -> None:
    with Broker(*ours.sign("IP:127.0.0.1")) as broker:
        assert "certificate" not in connect(url_of(broker.port), ours.ca)
    assert broker.heard == HEADER


def test_the_next_broker_is_expected_to_prove_its_own_name(ours: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead: int = gone.getsockname()[1]
    with Broker(*ours.sign("IP:127.0.0.1")) as broker:
        connect(f"{url_of(dead, '127.0.0.2')};{url_of(broker.port)}", ours.ca)
    assert broker.heard == HEADER


@pytest.mark.parametrize(
    ("names", "days", "signed", "why"),
    [
        ("IP:127.0.0.1", 1, "other", "certificate verify failed"),
        ("IP:127.0.0.9", 1, "ours", "mismatch"),
        ("IP:127.0.0.1", -1, "ours", "certificate has expired"),
    ],
)
def test_a_broker_that_proves_nothing_hears_nothing(
    ours: Authority, other: Authority, names: str, days: int, signed: str, why: str
) -> None:
    with Broker(*{"ours": ours, "other": other}[signed].sign(names, days)) as broker:
        assert why in connect(url_of(broker.port), ours.ca)
    assert broker.heard == b""


CONNECTION = (
    "from jukebox.celery import app; c = app.connection();"
    "print(json.dumps([type(c.transport).__module__, c.transport.driver_type, c.ssl]))"
)


def test_the_application_is_set_up_so(ours: Authority) -> None:
    url = "amqps://ada:pw@broker1/jukebox;amqps://ada:pw@broker2/jukebox"
    environ = {"JUKEBOX_BROKER_URL": url, "JUKEBOX_BROKER_CA": str(ours.ca)}
    settings = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": str(ours.ca)}
    assert told(CONNECTION, **environ) == ["jukebox.amqps", "amqp", settings]


def test_without_tls_nothing_changes() -> None:
    found = told(CONNECTION, JUKEBOX_BROKER_URL="amqp://ada:pw@broker1/jukebox")
    assert found == ["kombu.transport.pyamqp", "amqp", False]
