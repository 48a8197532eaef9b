"""A Fabric connection that trusts only the host keys pinned in its environment.

Fabric itself accepts any unknown host key (AutoAddPolicy) and reads ~/.ssh/known_hosts. Here the one
source of truth is inventory/<env>/known_hosts; a key that is missing there or differs is refused.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import paramiko
from fabric import Config, Connection
from paramiko.ssh_exception import (
    AuthenticationException,
    BadHostKeyException,
    NoValidConnectionsError,
    SSHException,
)

from backline.transport import pins
from backline.transport.port import KEY_CHANGED, KEY_UNKNOWN, Target, Unreachable

# Paramiko logs the traceback of every host that is down; we say it in our own words (`explain`).
logging.getLogger("paramiko").addHandler(logging.NullHandler())

CONNECT_SECONDS = 10
KEEPALIVE_SECONDS = 10
IDLE_SECONDS = 2.0
"""How often the thread of an idle connection looks around: paramiko's 0.1 s, on two hundred hosts that
are kept open, is a processor's work."""


BANNER = "SSH protocol banner"
"""In what paramiko says when the host did not say in time that it speaks SSH, or hung up on us."""
GONE = "No existing session"
"""What paramiko says when the host took too long to agree on keys, or hung up after it."""


class UnpinnedKey(SSHException):
    """The host offered a key, and known_hosts has none for it."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("no pinned host key")
        self.key = key


class RejectUnpinned(paramiko.RejectPolicy):
    """Refuses a host that known_hosts does not name, and keeps the key it offered for the message."""

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> NoReturn:
        """Raises UnpinnedKey, always."""
        raise UnpinnedKey(key)


class JumpHostFailed(Exception):
    """The way to a host ends at its jump host already; `error`: what went wrong there."""

    def __init__(self, jump: PinnedConnection, error: Exception) -> None:
        super().__init__(str(error))
        self.jump, self.error = jump, error


class PinnedConnection(Connection):  # type: ignore[misc]
    """A Fabric Connection to one host of the inventory; its jump hosts must be pinned as well."""

    # Without this line Fabric takes the attribute for a setting: it merges the configuration anew for
    # each host, and another thread that shares it finds it empty for a moment.
    inline_ssh_env = True

    def __init__(
        self, address: str, *, known_hosts: Path, config: Config | None = None, **options: Any
    ) -> None:
        self._set(known_hosts=known_hosts)
        super().__init__(address, config=config or Config(), **options)
        self.client.set_missing_host_key_policy(RejectUnpinned())

    @classmethod
    def to(cls, host: Target, known_hosts: Path, config: Config | None = None) -> PinnedConnection:
        """A connection (not opened yet) to `host`, as the deploy user, with the inventory's key.

        Raises what paramiko and the file system raise for the key, see `explain`.
        """
        keys = _private_key(Path(host.key_file)) if host.key_file else {}
        return cls(
            host.address,
            user=host.user,
            port=host.port,
            known_hosts=known_hosts,
            config=config,
            connect_timeout=CONNECT_SECONDS,
            connect_kwargs={
                **keys,
                "banner_timeout": CONNECT_SECONDS,
                "auth_timeout": CONNECT_SECONDS,
                "channel_timeout": CONNECT_SECONDS,
            },
        )

    def get_gateway(self) -> Any:
        """The jump hosts of ssh_config, each pinned like the host itself."""
        if "proxyjump" not in self.ssh_config:
            return super().get_gateway()
        gateway: PinnedConnection | None = None
        for hop in self.ssh_config["proxyjump"].split(","):
            options = {"gateway": gateway} if gateway else {}
            gateway = PinnedConnection(
                hop, known_hosts=self.known_hosts, config=self.config.clone(), **options
            )
        return gateway

    def open_gateway(self) -> Any:
        """What leads to the host instead of a socket. Raises JumpHostFailed for what the jump host is."""
        if isinstance(self.gateway, PinnedConnection):
            try:
                self.gateway.open()
            except JumpHostFailed:
                raise
            except Exception as error:
                raise JumpHostFailed(self.gateway, error) from error
        return super().open_gateway()

    def open(self) -> Any:
        """Connects and verifies the host's key; raises what paramiko raises, see `explain`."""
        if self.is_connected:
            return None
        keys = self.client.get_host_keys()
        keys.clear()
        pins.read(self.known_hosts).into(keys, self.host, self.port)
        try:
            result = super().open()
        except SSHException as error:
            transport = self.client.get_transport()
            if GONE in str(error) and transport is not None and not transport.is_active():
                raise EOFError from error  # between the keys and the login
            raise
        self.transport.set_keepalive(KEEPALIVE_SECONDS)
        self.transport.sock.settimeout(IDLE_SECONDS)
        return result

    def close(self) -> None:
        """Ends the connection at once, instead of when its thread looks around next, also one that was
        never logged in, and those to its jump hosts: they are nobody else's."""
        end = getattr(self.transport and self.transport.sock, "shutdown", None)
        if end:  # a ProxyCommand has none
            with suppress(OSError, EOFError, paramiko.SSHException):
                end(socket.SHUT_RDWR)
        try:
            super().close()
            self.client.close()
        finally:
            if isinstance(self.gateway, PinnedConnection):
                self.gateway.close()


def _private_key(path: Path) -> dict[str, Any]:
    """The key of the inventory and no other; one with a passphrase is left to the SSH agent.

    It is loaded here because paramiko, given a file name, tries every format in turn and then
    reports the last format that did not fit instead of "refused".
    """
    try:
        return {"pkey": pins.private_key(path), "look_for_keys": False, "allow_agent": False}
    # OpenSSH's own format says it by a TypeError.
    except (paramiko.PasswordRequiredException, TypeError):
        return {"look_for_keys": False, "allow_agent": True}


def fingerprint(key: paramiko.PKey) -> str:
    """A key as `ssh-keygen -l` shows it: `ssh-ed25519 SHA256:…`."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"


def _trust(host: Target, known_hosts: Path) -> str:
    """What pins a host's key: known_hosts lies in the folder of its environment."""
    return f"fab hosts.trust --env {known_hosts.parent.name} --on {host.name}"


def explain(host: Target, known_hosts: Path, error: Exception) -> Unreachable:
    """What a failed connection means, where, and what to do about it. Nothing was sent over it."""
    if isinstance(error, JumpHostFailed):
        return _of_jump_host(host, known_hosts, error)
    found = (
        _of_its_key(host, known_hosts, error)
        or _of_our_key(host, error)
        or _of_the_way(host, error)
    )
    found.sent = False
    return found


def _of_jump_host(host: Target, known_hosts: Path, failed: JumpHostFailed) -> Unreachable:
    """The jump host is one of ~/.ssh/config: neither the inventory nor hosts.trust knows of it."""
    jump = Target(host.name, failed.jump.host, failed.jump.port, failed.jump.user, None)
    found = explain(jump, known_hosts, failed.error)
    hint = found.hint
    if _trust(host, known_hosts) in hint:
        warning = "somebody may stand in between, so nothing was sent. "
        hint = (
            f"{warning if found.code == KEY_CHANGED else ''}A jump host is pinned by hand: compare its key "
            f"on its console (ssh-keyscan shows the line), then write it into {known_hosts}"
        )
    elif found.code == "authentication":
        hint = "does `ssh` log in there, with ~/.ssh/config and the agent's keys?"
    return Unreachable(
        host.name, f"jump host: {found.message}", code=found.code, hint=hint, sent=False
    )


def _of_its_key(host: Target, known_hosts: Path, error: Exception) -> Unreachable | None:
    """It is not known whether that is the host: nothing was sent."""
    where = f"{host.address} port {host.port}"
    if isinstance(error, BadHostKeyException):
        rebuilt = (
            f"docs/runbooks: host-compromised; the line of {known_hosts} says whose key it was"
            if isinstance(error.expected_key, pins.Revoked)
            else "If the host was rebuilt, compare the key on its console "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), "
            f"then {_trust(host, known_hosts)} --replace"
        )
        return Unreachable(
            host.name,
            f"wrong host key from {where}: "
            f"expected {fingerprint(error.expected_key)}, offered {fingerprint(error.key)}",
            code=KEY_CHANGED,
            hint=f"somebody may stand in between, so nothing was sent. {rebuilt}",
        )
    if isinstance(error, UnpinnedKey):
        return Unreachable(
            host.name,
            f"no host key is pinned for {where}; it offered {fingerprint(error.key)}",
            code=KEY_UNKNOWN,
            hint=f"{_trust(host, known_hosts)}, and compare it on the host's console",
        )
    if isinstance(error, FileNotFoundError) and str(known_hosts) in str(error):
        return Unreachable(
            host.name,
            f"there is no {known_hosts}, so no host key can be verified",
            code=KEY_UNKNOWN,
            hint="a lab's is written by `inv lab.up`; for other hosts "
            f"{_trust(host, known_hosts)}, and compare it on the host's console",
        )
    return None


def _of_our_key(host: Target, error: Exception) -> Unreachable | None:
    """The host is the right one, and does not let us in."""
    if isinstance(error, FileNotFoundError) and host.key_file and host.key_file in str(error):
        return Unreachable(
            host.name,
            f"there is no private key {host.key_file}",
            code="authentication",
            hint="the inventory's ansible_ssh_private_key_file names it",
        )
    if isinstance(error, AuthenticationException) and not (_hung_up(error) or _slow(error)):
        return Unreachable(
            host.name,
            f"{_where(host)} refuses our key {host.key_file or '(agent or ~/.ssh)'}",
            code="authentication",
            hint="is the host provisioned? `fab provision` creates the user "
            "and installs the operators' keys",
        )
    return None


def _of_the_way(host: Target, error: Exception) -> Unreachable:
    """Nobody was there, or nobody in time."""
    where = _where(host)
    if _slow(error):
        return Unreachable(
            host.name, f"{where} does not answer within {CONNECT_SECONDS} s", code="timeout"
        )
    if _hung_up(error):
        return Unreachable(
            host.name,
            f"{where} closed the connection before we were logged in",
            code="lost",
            hint="once more: it may be down for a restart, or have too many logins at once "
            "(sshd's MaxStartups; --fanout). If it stays so, is an SSH server what listens there?",
        )
    if isinstance(error, NoValidConnectionsError):
        reasons = {
            getattr(reason, "strerror", None) or str(reason) for reason in error.errors.values()
        }
        return Unreachable(host.name, f"{where}: {', '.join(sorted(reasons))}", code="refused")
    return Unreachable(host.name, f"{where}: {error or type(error).__name__}", code="ssh")


def _slow(error: Exception) -> bool:
    """It did not say in time what we waited for."""
    words = GONE, "Authentication timeout"
    reasons = (error, error.__context__ if BANNER in str(error) else None)
    return any(word in str(error) for word in words) or any(
        isinstance(reason, TimeoutError) for reason in reasons
    )


def _hung_up(error: Exception) -> bool:
    """It, or what is between, closed the connection. Paramiko does not tell that from slowness."""
    if isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
        return True
    return BANNER in str(error) or "transport shut down or saw EOF" in str(error)


def _where(host: Target) -> str:
    return f"{host.user}@{host.address} port {host.port}"
