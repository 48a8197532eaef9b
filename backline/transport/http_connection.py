"""One HTTP/1.1 connection: bytes out, a whole answer in, or an error that says what was wrong."""

from __future__ import annotations

import asyncio
import os
import select
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE = 64 * 1024


class HttpError(Exception):
    """A request got no whole answer.

    `kind`: `connect`, `tls`, `reset` (the connection ended before or within the answer's head),
    `truncated` (the body ended early), `timeout` or `protocol` (not HTTP as we know it).
    As text: the kind and what is known besides.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of an answer; header names in lower case, repeated ones joined by commas."""

    status: int
    headers: dict[str, str]
    version: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection. After an error it is of no use any more: `abort()` it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.reusable = True
        self._poll = select.poll()
        self._poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)

    def usable(self) -> bool:
        """Whether an idle connection is still open, as far as this machine's kernel knows."""
        if not self.reusable or self._writer.is_closing():
            return False
        # A server says nothing between answers but goodbye (some send a 408 first). It may have been
        # read already (StreamReader shows it to nobody in public), or lie in the socket.
        told = self._reader.at_eof() or bool(getattr(self._reader, "_buffer", None))
        return not told and not self._poll.poll(0)

    async def send(self, request: bytes) -> None:
        """Sends a request's bytes."""
        try:
            self._writer.write(request)
            await self._writer.drain()
        except (OSError, ssl.SSLError) as error:
            raise HttpError("reset", f"while sending, {reason(error)}") from error

    async def head(self) -> Head:
        """Reads the head of the final answer."""
        while True:
            try:
                raw = await self._reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                what = "within the head" if error.partial else "without an answer"
                raise HttpError("reset", f"closed {what}") from error
            except asyncio.LimitOverrunError as error:
                raise HttpError("protocol", "a head of over 64 KiB") from error
            except (OSError, ssl.SSLError) as error:
                raise HttpError("reset", reason(error)) from error
            head = parse_head(raw)
            if head.status >= 200:
                options = head.headers.get("connection", "").lower()
                if "close" in options or (head.version == "HTTP/1.0" and "keep" not in options):
                    self.reusable = False
                return head

    async def pieces(self, head: Head, method: str = "GET") -> AsyncIterator[bytes]:
        """The body's bytes as they come; HttpError unless all of it came."""
        try:
            if method == "HEAD" or head.status in (204, 304):
                return
            if "chunked" in head.headers.get("transfer-encoding", "").lower():
                async for piece in self._chunks():
                    yield piece
            elif (length := head.headers.get("content-length")) is not None:
                async for piece in self._exactly(_number(length, 10)):
                    yield piece
            else:
                self.reusable = False
                while piece := await self._reader.read(PIECE):
                    yield piece
        except asyncio.IncompleteReadError as error:
            raise HttpError("truncated") from error
        except (OSError, ssl.SSLError) as error:
            raise HttpError("truncated", reason(error)) from error
        except (asyncio.LimitOverrunError, ValueError) as error:
            raise HttpError("protocol", "a chunk's size is missing") from error

    async def _exactly(self, length: int) -> AsyncIterator[bytes]:
        left = length
        while left:
            piece = await self._reader.read(min(left, PIECE))
            if not piece:
                raise HttpError("truncated", f"{length - left} of {length} bytes")
            left -= len(piece)
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await self._reader.readuntil(b"\r\n")
            size = _number(line.split(b";")[0].strip().decode("latin-1"), 16)
            if size == 0:
                break
            async for piece in self._exactly(size):
                yield piece
            if await self._reader.readexactly(2) != b"\r\n":
                raise HttpError("protocol", "a chunk is longer than it said")
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers

    async def exchange(self, request: bytes, method: str = "GET") -> Response:
        """Sends a request and reads the whole answer."""
        await self.send(request)
        head = await self.head()
        body = b"".join([piece async for piece in self.pieces(head, method)])
        return Response(head.status, head.headers, body)

    def close(self) -> None:
        """Ends the connection politely."""
        self._writer.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._writer.transport.abort()


def parse_head(raw: bytes) -> Head:
    """The head of an answer; HttpError when it is none."""
    status, *lines = raw[:-4].decode("latin-1").split("\r\n")
    version, _, rest = status.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise HttpError("protocol", f"not an HTTP answer: {status[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise HttpError("protocol", f"not a header: {line[:40]!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(int(rest[:3]), headers, version)


def _number(text: str, base: int) -> int:
    digits = "0123456789abcdef"[:base]
    if not text or any(digit not in digits for digit in text.lower()):
        raise HttpError("protocol", f"not a length: {text[:20]!r}")
    return int(text, base)


def reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    # asyncio's own text has the address, and not what went wrong with it.
    if isinstance(number, int) and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number).lower()
    text = str(error) or type(error).__name__
    return text.lower()[:80]
