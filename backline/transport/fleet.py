"""The hosts of an environment over SSH: one connection per host and run, shared by all threads."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from backline.transport import pool
from backline.transport.port import (
    Answer,
    DeadlinePassed,
    Hands,
    Heard,
    HostError,
    Outcome,
    Reply,
    Shipped,
    Target,
    Unreachable,
)

if TYPE_CHECKING:
    from backline.transport.connection import PinnedConnection

T = TypeVar("T")
SPARE_FILES = 256
ANSWER_SECONDS = 0.8
"""How long the word that a deadline has passed may take to come here."""


class SshFleet:
    """Implements port.Fleet. Connects when first asked; `close` ends all connections."""

    def __init__(
        self, targets: Mapping[str, Target], known_hosts: Path, width: int = pool.WIDTH
    ) -> None:
        self.targets = dict(targets)
        self.known_hosts = known_hosts
        self.width = width
        self._cuts = 0
        self._held: dict[str, float] = {}
        self._holds: dict[str, float] = {}
        self._config: Any = None
        self._reading = threading.Lock()
        self._connections: dict[str, PinnedConnection] = {}
        self._locks = {name: threading.Lock() for name in self.targets}
        _allow_files(len(self.targets))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections."""
        for host in list(self._connections):
            self._drop(host)

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> Answer:
        """See port.Fleet."""
        from backline.transport import hostctl

        command, stdin = hostctl.request(verb, fields)
        return hostctl.answer(host, verb, self._execute(host, command, stdin, deadline))

    def run(
        self,
        host: str,
        command: str,
        *,
        deadline: float,
        stdin: bytes = b"",
        sudo: bool = False,
        heard: Heard | None = None,
    ) -> Reply:
        """See port.Shells. A deadline of 0 is none; the connection is made within it."""
        from backline.transport import channel, guard

        end = time.monotonic() + deadline if deadline else float("inf")
        cuts = self._cuts
        session = self._session(host)
        left = end - time.monotonic()
        if cuts != self._cuts or left <= 0:  # it was given up while it connected
            session.close()
            raise pool.too_late(host, deadline, sent=False)
        left = left if deadline else 0.0
        line = guard.guarded(command, left, fed=len(stdin), sudo=sudo)
        reply = self._execute(
            host,
            line,
            stdin,
            left + guard.LATE_SECONDS + ANSWER_SECONDS if deadline else float("inf"),
            session=session,
            lifeline=True,
            heard=self._holding(host, heard) if heard else None,
            kept=channel.KEPT,
        )
        if reply.code in guard.ENDED and time.monotonic() >= end - 0.1:
            raise DeadlinePassed(host, deadline, reply)
        return reply

    def cut(self, hosts: Iterable[str]) -> list[str]:
        """See port.Shells."""
        self._cuts += 1
        return [host for host in hosts if self._drop(host)]

    def let_go(self, host: str) -> None:
        """See port.Shells."""
        self._drop(host)

    def ship(self, host: str, files: Sequence[Path], progress: Shipped) -> int:
        """See port.Fleet."""
        from backline.transport import upload

        total, before, sent = sum(file.stat().st_size for file in files), 0, 0
        with self._sftp(host) as sftp:
            for file in files:
                told = partial(_add, progress, host, before, total)
                sent += upload.put(sftp, file, progress=told)
                before += file.stat().st_size
        return sent

    def hands(self) -> Hands:
        """See port.Fleet."""
        return pool.Threads(self._drop, self._held_up)

    def discard(self, host: str, names: Iterable[str]) -> None:
        """See port.Fleet."""
        from backline.transport import upload

        with self._sftp(host) as sftp:
            upload.remove(sftp, names)

    def each(
        self,
        hosts: Iterable[str],
        work: Callable[[str], T],
        *,
        deadline: float,
        done: Callable[[str, Outcome[T]], None] | None = None,
    ) -> dict[str, Outcome[T]]:
        """See port.Fleet."""
        return pool.each(
            hosts, work, deadline=deadline, width=self.width, done=done, abandon=self._drop
        )

    def _execute(
        self,
        host: str,
        command: str,
        stdin: bytes,
        deadline: float,
        session: Any = None,
        **options: Any,
    ) -> Reply:
        from backline.transport import channel

        session = session or self._session(host)
        try:
            return channel.execute(session, command, stdin=stdin, deadline=deadline, **options)
        except channel.DeadlinePassed as late:
            self._drop(host)
            raise pool.too_late(host, deadline, late.reply) from None
        except channel.ConnectionLost as error:
            self._drop(host)
            why = f"connection lost: {error}"
            raise Unreachable(host, why, code="lost", reply=error.reply) from error

    def _session(self, host: str) -> Any:
        """A new channel; one that an idle connection refuses is tried on a fresh connection once."""
        for attempt in (1, 2):
            connection = self._connection(host)
            try:
                return connection.create_session()
            except Exception as error:
                self._drop(host)
                if attempt == 2:
                    why = f"connection lost: {error}"
                    raise Unreachable(host, why, code="lost", sent=False) from error
        raise AssertionError("not reached")

    def _connection(self, host: str) -> PinnedConnection:
        from backline.transport.connection import PinnedConnection, explain

        with self._locks[host]:
            connection = self._connections.get(host)
            if connection is not None and connection.is_connected:
                return connection
            self._drop(host)
            target, connection = self.targets[host], None
            try:
                connection = PinnedConnection.to(target, self.known_hosts, self._settings())
                connection.open()
            except Exception as error:
                if connection is not None:
                    with suppress(Exception):
                        connection.close()
                raise explain(target, self.known_hosts, error) from error
            self._connections[host] = connection
            return connection

    def _holding(self, host: str, heard: Heard) -> Heard:
        """`heard`, and for how long it blocks is kept: a slow reader makes no host late."""

        def hold(stream: str, data: bytes) -> None:
            since = self._holds[host] = time.monotonic()
            try:
                heard(stream, data)
            finally:
                self._held[host] = self._held.get(host, 0.0) + time.monotonic() - since
                self._holds.pop(host, None)

        return hold

    def _held_up(self, host: str) -> float:
        """For how many seconds in all we, not the host, held up what runs there."""
        since = self._holds.get(host)
        return self._held.get(host, 0.0) + (time.monotonic() - since if since else 0.0)

    def _settings(self) -> Any:
        """Fabric's configuration (with ~/.ssh/config), read once for all connections."""
        from fabric import Config

        with self._reading:
            if self._config is None:
                self._config = Config()
            return self._config

    @contextmanager
    def _sftp(self, host: str) -> Iterator[Any]:
        from paramiko import SSHException

        try:
            session = self._connection(host).client.open_sftp()
            try:
                yield session
            finally:
                session.close()
        except TimeoutError:
            self._drop(host)
            raise Unreachable(host, "the upload stalled", code="deadline") from None
        except PermissionError as error:
            raise HostError(host, f"upload refused: {error}", code="upload") from error
        except (OSError, EOFError, SSHException) as error:
            raise Unreachable(host, f"upload failed: {error}", code="upload") from error

    def _drop(self, host: str) -> bool:
        """Ends the connection to a host; whether there was one."""
        connection = self._connections.pop(host, None)
        if connection is not None:
            with suppress(Exception):
                connection.close()
        return connection is not None


def _allow_files(connections: int) -> None:
    """A connection is an open file, and many systems allow a program 1,024 unless it asks for more."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if now != resource.RLIM_INFINITY and now < wanted:
        new = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (new, most))


def _add(progress: Shipped, host: str, before: int, total: int, sent: int) -> None:
    progress(host, before + sent, total)
