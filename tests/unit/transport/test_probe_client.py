"""The probe's HTTP client: whole answers or an error that says what was wrong, and no retries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backline.transport.http_client import Client, HttpError, Response
from backline.transport.http_connection import parse_head
from tests.http_server import Server, certificate


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def ask(
    server: Server, *paths: str, fresh: bool = False, timeout: float = 3, pause: float = 0
) -> list[Response]:
    """The answers to requests one after the other, by one client."""

    async def run() -> list[Response]:
        client = Client(server.base)
        found = []
        for path in paths:
            found.append(await client.request("GET", path, fresh=fresh, timeout=timeout))
            await asyncio.sleep(pause)
        client.close()
        return found

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/", "/chunked", "/old", "/early"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_body_arrives_whole_however_it_is_framed(server: Server, path: str, fresh: bool) -> None:
    first, second = ask(server, path, path, fresh=fresh)
    assert (first.status, first.body) == (200, b"hello") == (second.status, second.body)
    kept = not fresh and path != "/old"
    assert server.connections == (1 if kept else 2)


def test_an_answer_without_a_body_leaves_the_connection_usable(server: Server) -> None:
    assert [answer.status for answer in ask(server, "/none", "/moved", "/")] == [204, 302, 200]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/short", "truncated"),
        ("/chunked-short", "truncated"),
        ("/reset-within", "truncated"),
        ("/chunked-wrong", "protocol"),
        ("/chunked-endless", "protocol"),
        ("/garbage", "protocol"),
        ("/reset", "reset"),
        ("/hangs-up", "reset"),
        ("/half-head", "reset"),
        ("/stall", "timeout"),
        ("/drip", "timeout"),
    ],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_bad_answer_is_an_error_once(server: Server, path: str, kind: str, fresh: bool) -> None:
    began = time.monotonic()
    with pytest.raises(HttpError) as caught:
        ask(server, path, fresh=fresh, timeout=0.5)
    assert caught.value.kind == kind, caught.value
    assert time.monotonic() - began < 1.5
    assert server.seen[path] == 1, "it was sent again"


@pytest.mark.parametrize("path", ["/goes", "/tired"])
def test_a_kept_connection_that_the_server_closed_meanwhile_is_not_used(
    server: Server, path: str
) -> None:
    answers = ask(server, path, "/", "/", pause=0.3)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [number for number, _ in server.requests] == [1, 2, 2]


def test_a_close_that_still_lies_in_the_socket_is_seen(server: Server) -> None:
    """The loop was busy (as this machine is) and has not read the server's goodbye yet."""

    async def run() -> int:
        client = Client(server.base)
        await client.request("GET", "/goes")
        time.sleep(0.3)  # noqa: ASYNC251
        return (await client.request("GET", "/")).status

    assert asyncio.run(run()) == 200


def test_once_a_byte_was_sent_a_reset_on_a_kept_connection_is_an_error(server: Server) -> None:
    with pytest.raises(HttpError, match="reset"):
        ask(server, "/", "/reset")
    assert server.seen["/reset"] == 1


def test_nobody_listens(server: Server) -> None:
    server.stop()
    with pytest.raises(HttpError, match="connect: connection refused"):
        ask(server, "/")


def test_a_form_is_sent_with_its_length(server: Server) -> None:
    client = Client(server.base)
    sent = client.compose("POST", "/plays/", {"Cookie": "a=b"}, b"play=1", last=True)
    head, body = sent.split(b"\r\n\r\n")
    assert body == b"play=1"
    assert head.split(b"\r\n") == [
        b"POST /plays/ HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}".encode(),
        b"Cookie: a=b",
        b"Content-Length: 6",
        b"Connection: close",
    ]


def test_tls_trusts_the_named_ca_and_no_other(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    server = Server(pem)

    async def run(ca: Path | None, name: str) -> int:
        client = Client(f"https://{name}:1", str(ca) if ca else None, f"127.0.0.1:{server.port}")
        for fresh in (False, True, False):
            status = (await client.request("GET", "/chunked", fresh=fresh)).status
        client.close()
        return status

    try:
        assert asyncio.run(run(pem, "127.0.0.1")) == 200
        assert server.connections == 2
        with pytest.raises(HttpError, match="tls: "):
            asyncio.run(run(None, "127.0.0.1"))
        with pytest.raises(HttpError, match="tls: Hostname mismatch"):
            asyncio.run(run(pem, "localhost"))
    finally:
        server.stop()


def test_a_status_that_is_no_number_is_no_answer() -> None:
    with pytest.raises(HttpError, match="not an HTTP answer"):
        parse_head("HTTP/1.1 20² OK\r\n\r\n".encode("latin-1"))
