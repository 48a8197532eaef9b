"""The keys that a host offers, by the handshake alone: nobody logs in, no secret is sent.

The handshake proves that whoever answers has the private half. That it is the host we mean it does
not prove: a person has to compare the fingerprints.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer, NoValidConnectionsError, SSHException

from backline.transport.connection import CONNECT_SECONDS, PinnedConnection, explain
from backline.transport.port import Target, Unreachable

KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""A handshake shows one key: it is made once for each of these."""


def offered(target: Target, known_hosts: Path) -> tuple[str, dict[str, str]]:
    """Under which name a host stands in known_hosts, and its keys: {type: key in base64}.

    Goes through the jump hosts of ssh_config, which must be pinned already. Raises Unreachable, also
    when the host has no key of a kind that we take.
    """
    connection = PinnedConnection(
        target.address, user=target.user, port=target.port, known_hosts=known_hosts
    )
    found: dict[str, str] = {}
    try:
        for kinds in KINDS:
            key = _ask(connection, kinds)
            if key is not None:
                found[key.get_name()] = key.get_base64()
    except Unreachable:
        raise
    except Exception as error:
        raise explain(target, known_hosts, error) from error
    finally:
        with suppress(Exception):
            connection.close()
    if not found:
        raise Unreachable(target.name, "it offers no host key of a kind that we take", code="ssh")
    return name_of(str(connection.host), int(connection.port)), found


def name_of(address: str, port: int) -> str:
    """How known_hosts names a host: the port only where it is not SSH's own."""
    return address if port == 22 else f"[{address}]:{port}"


def _ask(connection: PinnedConnection, kinds: tuple[str, ...]) -> paramiko.PKey | None:
    """The host's key of these kinds; None when it has none."""
    transport = paramiko.Transport(_socket(connection))
    transport.banner_timeout = CONNECT_SECONDS
    try:
        transport.get_security_options().key_types = kinds
        transport.start_client(timeout=CONNECT_SECONDS)
        return transport.get_remote_server_key()
    except IncompatiblePeer:
        return None
    except SSHException as error:
        if "no acceptable host key" in str(error).lower():
            return None
        raise
    finally:
        transport.close()


def _socket(connection: PinnedConnection) -> Any:
    if connection.gateway is not None:
        return connection.open_gateway()
    address = connection.host, int(connection.port)
    try:
        return socket.create_connection(address, CONNECT_SECONDS)
    except TimeoutError:
        raise
    except OSError as error:  # as paramiko says it, so that it is explained in the same words
        raise NoValidConnectionsError({address: error}) from error


def write(path: Path, text: str) -> None:
    """Replaces known_hosts by one rename: whoever connects meanwhile reads the old or the new one. What
    a link leads to is replaced, and not the link; bytes that are no UTF-8 come as surrogates."""
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
