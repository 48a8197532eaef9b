"""A small asyncio HTTP/1.1 client that hides nothing: no retries, no redirects, exact bodies.

Made for measuring: it costs little, and whatever goes wrong with a request is told in a word.
It imports only what asyncio has loaded anyway.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from backline.transport.http_connection import Connection, HttpError, Response, reason

__all__ = ["Client", "HttpError", "Response"]

MOST_IDLE = 64
#: Seconds a server gets for its goodbye on a TLS connection that we close.
GOODBYE = 1.0


class Client:
    """Requests to one origin.

    `base`: `https://host[:port]`. `ca`: a PEM file that signs its certificate, None for those that
    the system trusts. `connect`: `host:port` to connect to instead, the name in the certificate
    stays the base's. Raises OSError (ssl.SSLError too) when `ca` cannot be read.
    """

    def __init__(self, base: str, ca: str | None = None, connect: str | None = None) -> None:
        url = urlsplit(base)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"not an http(s) address: {base!r}")
        self._host = url.netloc
        self._tls = ssl.create_default_context(cafile=ca) if url.scheme == "https" else None
        self._name = url.hostname if self._tls else None
        port = url.port or (443 if self._tls else 80)
        self._address = _place(connect) if connect else (url.hostname, port)
        self._idle: list[Connection] = []

    def compose(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        last: bool = False,
    ) -> bytes:
        """A request's bytes; `last`: it asks the server to close afterwards."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}")
        if last:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def open(self) -> Connection:
        """A new connection, TLS included."""
        try:
            reader, writer = await asyncio.open_connection(
                *self._address,
                ssl=self._tls,
                server_hostname=self._name,
                ssl_shutdown_timeout=GOODBYE if self._tls else None,
            )
        except ssl.SSLError as error:
            raise HttpError("tls", getattr(error, "verify_message", "") or error.reason) from error
        except OSError as error:
            raise HttpError("connect", reason(error)) from error
        return Connection(reader, writer)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = {},  # noqa: B006 (never changed)
        body: bytes = b"",
        timeout: float = 10.0,
        fresh: bool = False,
    ) -> Response:
        """The whole answer to one request within `timeout` seconds; HttpError otherwise.

        `fresh`: on a connection of its own, closed afterwards. Else on an idle one if there is any;
        one that the server has closed meanwhile is left aside before a byte is sent.
        """
        data = self.compose(method, path, headers, body, last=fresh)
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout):
                connection = (None if fresh else self._take()) or await self.open()
                response = await connection.exchange(data, method)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, TimeoutError):
                raise HttpError("timeout", f"no whole answer in {timeout:g} s") from error
            raise
        if fresh or not connection.reusable or len(self._idle) >= MOST_IDLE:
            connection.close()
        else:
            self._idle.append(connection)
        return response

    def close(self) -> None:
        """Ends the idle connections."""
        while self._idle:
            self._idle.pop().abort()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
