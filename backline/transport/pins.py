"""The host keys of an environment: its known_hosts is read once for a run, not once for each host.

Paramiko's own reader compares every line with every line before it. With a thousand hosts that takes
longer than to connect to all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey
from paramiko.ssh_exception import BadHostKeyException

SSH_PORT = 22


class Pins:
    """The lines of one known_hosts. Nothing is parsed before somebody asks for a host."""

    def __init__(self, text: str) -> None:
        self._named: dict[str, list[str]] = {}
        self._hashed: list[tuple[str, str]] = []
        self._revoked: list[tuple[str, str]] = []
        for line in text.splitlines():
            line = line.strip()
            marker, *words = line.split(None, 4) or [""]
            if marker == "@revoked" and len(words) > 2:
                self._revoked.append((words[0], words[2]))
            if not line or line.startswith(("#", "@")):
                continue
            for name in line.split(None, 1)[0].split(","):
                if name.startswith("|1|"):
                    self._hashed.append((name, line))
                else:
                    self._named.setdefault(name, []).append(line)

    def into(self, keys: paramiko.HostKeys, address: str, port: int) -> None:
        """Adds the keys pinned for a host to `keys`. Of two keys of one kind the first counts; one that
        is revoked never does: in the place of the only one of a kind it refuses itself."""
        name = address if port == SSH_PORT else f"[{address}]:{port}"
        revoked, refused = self.revoked(address, port), []
        for line in (*self._named.get(name, ()), *self._of_hash(name)):
            entry = _entry(line)
            if entry is None or entry.key is None:
                continue
            if entry.key.get_base64() in revoked:
                refused.append(Revoked(name, entry.key))
            else:
                _add(keys, name, entry.key)
        for key in refused:
            _add(keys, name, key)

    def revoked(self, address: str, port: int) -> set[str]:
        """The keys, in base64, that this host must not show any more: of lines marked `@revoked` whose
        names or patterns fit it."""
        names = {address} if port == SSH_PORT else {address, f"[{address}]:{port}"}
        return {blob for patterns, blob in self._revoked if any(_fits(patterns, n) for n in names)}

    def _of_hash(self, name: str) -> Iterator[str]:
        for digest, line in self._hashed:
            if paramiko.HostKeys.hash_host(name, digest) == digest:
                yield line


class Revoked(paramiko.PKey):
    """A key that was pinned and is revoked: it equals none, least of all itself."""

    def __init__(self, name: str, key: paramiko.PKey) -> None:
        self.host, self.key = name, key

    def get_name(self) -> str:
        """Its type, by which paramiko asks for it."""
        return str(self.key.get_name())

    def asbytes(self) -> bytes:
        """The key itself."""
        return bytes(self.key.asbytes())

    def __eq__(self, other: object) -> bool:
        """Never. Raises BadHostKeyException for the revoked key, in words that say so."""
        if isinstance(other, paramiko.PKey) and other.asbytes() == self.asbytes():
            raise BadHostKeyException(self.host, other, _AnyBut(self.host, self.key))
        return False

    def __hash__(self) -> int:
        return hash(self.asbytes())


class _AnyBut(Revoked):
    """What is expected instead of a revoked key, as a message names it."""

    def get_name(self) -> str:
        return f"any but the revoked {self.key.get_name()}"


def read(path: Path) -> Pins:
    """The pins in a file, read again when it has changed. Raises OSError when there is none."""
    found = path.stat()
    return _read(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int, inode: int) -> Pins:
    return Pins(path.read_text(encoding="utf-8", errors="replace"))


@lru_cache(maxsize=8)
def private_key(path: Path) -> paramiko.PKey:
    """A private key of ours, read once. Raises what paramiko and the file system raise."""
    return paramiko.PKey.from_path(os.fspath(path))


def _add(keys: paramiko.HostKeys, name: str, key: paramiko.PKey) -> None:
    if key.get_name() not in (keys.lookup(name) or {}):
        keys.add(name, key.get_name(), key)


def _fits(patterns: str, name: str) -> bool:
    """Whether a name fits OpenSSH's list of patterns: `*` and `?`, `!` for those that do not, hashes."""
    found = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            fits = paramiko.HostKeys.hash_host(name, pattern) == pattern
        else:
            text = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
            fits = re.fullmatch(text, name, re.IGNORECASE) is not None
        if fits and pattern.startswith("!"):
            return False
        found = found or fits
    return found


def _entry(line: str) -> HostKeyEntry | None:
    try:
        return HostKeyEntry.from_line(line)
    except (InvalidHostKey, paramiko.SSHException, ValueError):
        return None
