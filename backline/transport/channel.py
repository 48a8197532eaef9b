"""One remote command over an open connection: bytes in, bytes out, by a deadline.

Fabric's own `run` polls, starts three threads per command and mixes stdin with the terminal; for a
program-to-program call a channel is simpler and the deadline is exact.
"""

from __future__ import annotations

import hashlib
import threading
import time

import paramiko

from backline.transport.port import Heard, Reply

CHUNK = 1 << 16
KEPT = 1 << 20
"""Bytes of each stream that a Reply keeps unless it is told otherwise: a thousand hosts may answer."""
LONGEST_WAIT = 3600.0


class Unfinished(Exception):
    """The command did not say how it ended. `reply`: what it wrote until then."""

    def __init__(self, reply: Reply, message: str = "") -> None:
        super().__init__(message)
        self.reply = reply


class DeadlinePassed(Unfinished):
    """The command did not end in time; its channel was closed."""


class ConnectionLost(Unfinished):
    """The connection ended before the command did."""


def execute(
    channel: paramiko.Channel,
    command: str,
    *,
    stdin: bytes = b"",
    lifeline: bool = False,
    deadline: float,
    heard: Heard | None = None,
    kept: int | None = None,
) -> Reply:
    """Runs `command` on a fresh channel and returns its reply within `deadline` seconds.

    With `lifeline` the remote stdin stays open until the command ends, which is how `guard.guarded`
    notices that we are gone. `heard` gets the output as it comes, `kept` bounds what the reply has
    of each stream; while `heard` blocks the clock stands still. Raises DeadlinePassed or ConnectionLost.
    """
    end = time.monotonic() + deadline
    streams = _Streams(channel, heard, kept)
    try:
        channel.settimeout(min(deadline, LONGEST_WAIT))
        channel.exec_command(command)
        _feed(channel, stdin, end)
        if not lifeline:
            channel.shutdown_write()
        streams.read(end)
        if not channel.status_event.wait(
            max(0.0, min(end + streams.held - time.monotonic(), LONGEST_WAIT))
        ):
            raise TimeoutError
    except TimeoutError:
        raise DeadlinePassed(streams.reply()) from None
    except (EOFError, OSError, paramiko.SSHException) as error:
        why = str(error) or "the connection was closed"
        raise ConnectionLost(streams.reply(), why) from error
    finally:
        channel.close()
    if channel.exit_status < 0:
        why = "the connection was closed before the command ended"
        raise ConnectionLost(streams.reply(), why)
    return streams.reply(channel.exit_status)


def _feed(channel: paramiko.Channel, stdin: bytes, end: float) -> None:
    sent = 0
    while sent < len(stdin):
        if time.monotonic() >= end:
            raise TimeoutError
        sent += channel.send(stdin[sent : sent + CHUNK])


class _Streams:
    """A channel's stdout and stderr. One event tells of both: `Channel.fileno` would take two more
    file descriptors for each host."""

    def __init__(
        self, channel: paramiko.Channel, heard: Heard | None, kept: int | None = None
    ) -> None:
        self.channel, self.heard, self.kept = channel, heard, kept
        self.out, self.err = bytearray(), bytearray()
        self.held = 0.0
        self._more: dict[str, hashlib._Hash] = {}
        self.event = threading.Event()
        for buffer in (channel.in_buffer, channel.in_stderr_buffer):
            buffer.set_event(self.event)

    def reply(self, code: int = -1) -> Reply:
        """What has come so far."""
        out, err = (self._more.get(stream) for stream in ("stdout", "stderr"))
        beyond = out.hexdigest() if out else "", err.hexdigest() if err else ""
        return Reply(code, bytes(self.out), bytes(self.err), bool(self._more), beyond)

    def read(self, end: float) -> None:
        """Reads both until the command has closed them; TimeoutError at `end`."""
        channel = self.channel
        while True:
            over = channel.eof_received or channel.closed
            while channel.recv_ready() or channel.recv_stderr_ready():
                if channel.recv_ready():
                    self._take("stdout", channel.recv(CHUNK))
                if channel.recv_stderr_ready():
                    self._take("stderr", channel.recv_stderr(CHUNK))
            if over:
                return
            left = end + self.held - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.event.wait(min(left, LONGEST_WAIT))

    def _take(self, stream: str, data: bytes) -> None:
        mine = self.out if stream == "stdout" else self.err
        if self.kept is None or len(mine) + len(data) <= self.kept:
            mine += data
        else:
            room = self.kept - len(mine)
            mine += data[:room]
            if stream not in self._more:
                self._more[stream] = hashlib.sha256()
            self._more[stream].update(memoryview(data)[room:])
        if self.heard:
            since = time.monotonic()
            self.heard(stream, data)
            self.held += time.monotonic() - since
