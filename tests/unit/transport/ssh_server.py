"""An SSH server in this process: enough of sshd to meet every way in which a host can misbehave."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface


class Server:
    """Listens on 127.0.0.1; runs commands with `sh`, keeps uploads below `root`.

    `commands` maps a prefix of a command line to a shell script that runs in its place.
    """

    def __init__(self, root: Path, allowed: paramiko.PKey) -> None:
        self.root = root
        self.allowed = allowed
        self.key = paramiko.ECDSAKey.generate()
        self.commands: dict[str, str] = {}
        self.connections = 0
        self.transports: list[paramiko.Transport] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def pinned(self, key: paramiko.PKey | None = None) -> str:
        """The line of known_hosts for this server, or with another key."""
        key = key or self.key
        return f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n"

    def cut(self) -> None:
        """Breaks all connections, as a reboot would."""
        for transport in self.transports:
            transport.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self.socket.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.key)
            transport.set_subsystem_handler("sftp", SFTPServer, Files, self.root)
            self.transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=Session(self, transport))


class Session(paramiko.ServerInterface):
    """What a client may do."""

    def __init__(self, server: Server, transport: paramiko.Transport) -> None:
        self.server, self.transport = server, transport

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == "deploy" and key == self.server.allowed
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        try:
            way = socket.create_connection(destination)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        threading.Thread(target=_forward, args=(self.transport, way), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        for prefix, script in self.server.commands.items():
            if command.startswith(prefix):
                command = script
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        threading.Thread(target=_feed, args=(channel, process), daemon=True).start()
        assert process.stdout and process.stderr
        pumps = [
            threading.Thread(target=_pump, args=(process.stdout, channel.sendall), daemon=True),
            threading.Thread(
                target=_pump, args=(process.stderr, channel.sendall_stderr), daemon=True
            ),
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        with contextlib.suppress(OSError, EOFError):
            channel.send_exit_status(process.wait())
            channel.close()


def _forward(transport: paramiko.Transport, way: socket.socket) -> None:
    """What a jump host does: carries bytes between a channel and the host that it leads to."""
    channel = transport.accept(10)
    for source, sink in ((channel, way), (way, channel)):
        threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(
    source: socket.socket | paramiko.Channel, sink: socket.socket | paramiko.Channel
) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError, EOFError):
            end.shutdown(socket.SHUT_RDWR)
            end.close()


def _pump(source: IO[bytes], send: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := source.read1(65536):  # type: ignore[attr-defined]
            send(data)


def _feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    """Like sshd: what arrives goes to stdin, and stdin is closed when the client is gone."""
    assert process.stdin
    with contextlib.suppress(OSError, EOFError), process.stdin:
        while data := channel.recv(4096):
            process.stdin.write(data)
            process.stdin.flush()


class Files(SFTPServerInterface):
    """Uploads below a folder."""

    def __init__(self, server: Session, root: Path) -> None:
        super().__init__(server)
        self.root = root

    def _path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def stat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(self._path(path).stat())
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle | int:
        try:
            file = os.fdopen(
                os.open(self._path(path), flags, 0o644), "ab" if flags & os.O_APPEND else "wb"
            )
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)
        handle = SFTPHandle(flags)
        handle.writefile = file  # type: ignore[attr-defined]
        return handle

    def remove(self, path: str) -> int:
        try:
            self._path(path).unlink()
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)
        return paramiko.SFTP_OK

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        self._path(oldpath).replace(self._path(newpath))
        return paramiko.SFTP_OK
