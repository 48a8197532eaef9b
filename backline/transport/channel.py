"""One remote command over an open connection: bytes in, bytes out, by a deadline.

Fabric's own `run` polls, starts three threads per command and mixes stdin with the terminal; for a
program-to-program call a channel is simpler and the deadline is exact.
"""

from __future__ import annotations

import selectors
import shlex
import time
from dataclasses import dataclass

import paramiko

CHUNK = 1 << 16
GRACE_SECONDS = 5


class DeadlinePassed(Exception):
    """The command did not end in time; its channel was closed."""


class ConnectionLost(Exception):
    """The connection ended before the command did."""


@dataclass(frozen=True)
class Reply:
    """What a remote command left."""

    code: int
    stdout: bytes
    stderr: bytes


def execute(
    channel: paramiko.Channel, command: str, *, stdin: bytes | None = b"", deadline: float
) -> Reply:
    """Runs `command` on a fresh channel and returns its reply within `deadline` seconds.

    With `stdin=None` the remote stdin stays open until the command ends, which is how `guarded`
    notices that we are gone. Raises DeadlinePassed or ConnectionLost.
    """
    end = time.monotonic() + deadline
    try:
        channel.settimeout(deadline)
        channel.exec_command(command)
        if stdin is not None:
            channel.sendall(stdin)
            channel.shutdown_write()
        out, err = _read(channel, end)
        if not channel.status_event.wait(max(0.0, end - time.monotonic())):
            raise DeadlinePassed
    except TimeoutError:
        raise DeadlinePassed from None
    except (EOFError, OSError, paramiko.SSHException) as error:
        raise ConnectionLost(str(error) or "the connection was closed") from error
    finally:
        channel.close()
    if channel.exit_status < 0:
        raise ConnectionLost("the connection was closed before the command ended")
    return Reply(channel.exit_status, out, err)


def _read(channel: paramiko.Channel, end: float) -> tuple[bytes, bytes]:
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(channel.fileno(), selectors.EVENT_READ)
        while True:
            over = channel.eof_received or channel.closed
            while channel.recv_ready():
                out += channel.recv(CHUNK)
            while channel.recv_stderr_ready():
                err += channel.recv_stderr(CHUNK)
            if over:
                return bytes(out), bytes(err)
            left = end - time.monotonic()
            if left <= 0:
                raise DeadlinePassed
            ready.select(left)


def guarded(command: str, deadline: int) -> str:
    """A shell line that runs `command` so that nothing of it outlives us or `deadline` seconds.

    The command gets a process group of its own. When our end of stdin closes (we ended, were
    killed, or the connection broke) or the deadline passes, the group is asked to end, then killed.
    Its exit code is the command's, 124 after the deadline.
    """
    inner = f"timeout --kill-after={GRACE_SECONDS} {deadline} sh -c {shlex.quote(command)}"
    script = (
        "exec 3<&0; "
        f"setsid {inner} </dev/null 3<&- & child=$!; exec 2>/dev/null; "
        "( cat <&3 >/dev/null; kill -TERM -$child; "
        f"sleep {GRACE_SECONDS}; kill -KILL -$child ) >/dev/null 2>&1 & watch=$!; "
        "wait $child; code=$?; kill $watch; kill -KILL -$child; exit $code"
    )
    return f"sh -c {shlex.quote(script)}"
