"""An HTTP server on 127.0.0.1 that behaves as a request's path says, well or badly."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import re
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Writer = asyncio.StreamWriter
Behaviour = Callable[[Writer, str], Awaitable[bool]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Release: r1\r\n"

LENGTH = re.compile(r"Content-Length: (\d+)")
RANGE = re.compile(r"Range: bytes=(\d+)-(\d+)")


class Server:
    """Started on construction, in a thread; `stop()` ends it.

    `requests`: (connection's number, path) in the order of arrival; `bodies` likewise.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[tuple[int, str]] = []
        self.bodies: list[bytes] = []
        self.seen: Counter[str] = Counter()
        self.connections = 0
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    @property
    def base(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        with suppress(RuntimeError):  # stopped already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split()[1]
                self.requests.append((number, path))
                self.seen[path] += 1
                length = LENGTH.search(head)
                self.bodies.append(await reader.readexactly(int(length[1])) if length else b"")
                if (
                    not await BEHAVIOUR[path.split("/")[1]](writer, head)
                    or "Connection: close" in head
                ):
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def _say(text: bytes, stay: bool = True) -> Behaviour:
    async def behave(writer: Writer, head: str) -> bool:
        writer.write(text)
        await writer.drain()
        return stay

    return behave


async def _reset(writer: Writer, head: str) -> bool:
    writer.transport.abort()
    return False


async def _reset_within(writer: Writer, head: str) -> bool:
    writer.write(OK.replace(b"5", b"500000") + b"\r\n" + b"x" * 100_000)
    await asyncio.sleep(0.05)
    writer.transport.abort()
    return False


async def _stall(writer: Writer, head: str) -> bool:
    await asyncio.sleep(30)
    return False


async def _slow(writer: Writer, head: str) -> bool:
    await asyncio.sleep(0.5)
    return await _say(OK + b"\r\nhello")(writer, head)


async def _drip(writer: Writer, head: str) -> bool:
    """Comes to life every now and then, and never finishes."""
    writer.write(OK.replace(b"5", b"500") + b"\r\n")
    for _ in range(100):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)
    return False


async def _goes(writer: Writer, head: str) -> bool:
    """A good answer, after which the server closes the kept connection without a word."""
    await _say(OK + b"\r\nhello")(writer, head)
    await asyncio.sleep(0.05)
    return False


async def _tired(writer: Writer, head: str) -> bool:
    """As a balancer that gives up on an idle connection, and says so."""
    await _say(OK + b"\r\nhello")(writer, head)
    await asyncio.sleep(0.05)
    writer.write(b"HTTP/1.1 408 Tired\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    return False


SONG = bytes(range(256)) * 400


def _sing(wrong: bytes = b"", cut: int = 0) -> Behaviour:
    """The range that was asked for; `wrong` takes the place of its end, `cut` bytes are missing."""

    async def behave(writer: Writer, head: str) -> bool:
        asked = RANGE.search(head)
        assert asked
        part = SONG[int(asked[1]) : int(asked[2]) + 1]
        writer.write(b"HTTP/1.1 206 Part\r\nContent-Length: %d\r\n\r\n" % len(part))
        writer.write((part[: len(part) - len(wrong)] + wrong)[: len(part) - cut])
        await writer.drain()
        return not cut

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BEHAVIOUR: dict[str, Behaviour] = {
    "": _say(OK + b"\r\nhello"),
    "broken": _say(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nX-Release: r2\r\n\r\n"),
    "moved": _say(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    "none": _say(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "early": _say(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"\r\nhello"),
    "chunked": _say(CHUNKED + b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"),
    "chunked-short": _say(CHUNKED + b"3\r\nhel\r\n", stay=False),
    "chunked-wrong": _say(CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", stay=False),
    "chunked-endless": _say(CHUNKED + b"-1\r\nhello\r\n", stay=False),
    "old": _say(b"HTTP/1.0 200 OK\r\n\r\nhello", stay=False),
    "short": _say(OK + b"\r\nhel", stay=False),
    "half-head": _say(b"HTTP/1.1 200 OK\r\nConte", stay=False),
    "hangs-up": _say(b"", stay=False),
    "garbage": _say(b"SSH-2.0-OpenSSH\r\n\r\n", stay=False),
    "plays": _say(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nX-Release: r1\r\n\r\n"),
    "song": _sing(),
    "song-wrong": _sing(wrong=b"?"),
    "song-short": _sing(cut=1),
    "reset": _reset,
    "reset-within": _reset_within,
    "stall": _stall,
    "slow": _slow,
    "drip": _drip,
    "goes": _goes,
    "tired": _tired,
}


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, one PEM file; its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "test.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path
