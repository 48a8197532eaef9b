"""The host keys of an environment: its known_hosts is read once for a run, not once for each host.

Paramiko's own reader compares every line with every line before it. With a thousand hosts that takes
longer than to connect to all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

SSH_PORT = 22


class Pins:
    """The lines of one known_hosts. Nothing is parsed before somebody asks for a host."""

    def __init__(self, text: str) -> None:
        self._named: dict[str, list[str]] = {}
        self._hashed: list[tuple[str, str]] = []
        for line in text.splitlines():
            line = line.strip()
            if not line or line.startswith(("#", "@")):
                continue
            for name in line.split(None, 1)[0].split(","):
                if name.startswith("|1|"):
                    self._hashed.append((name, line))
                else:
                    self._named.setdefault(name, []).append(line)

    def into(self, keys: paramiko.HostKeys, address: str, port: int) -> None:
        """Adds the keys pinned for a host to `keys`. Of two keys of one kind the first counts."""
        name = address if port == SSH_PORT else f"[{address}]:{port}"
        for line in (*self._named.get(name, ()), *self._of_hash(name)):
            entry = _entry(line)
            if entry is None or entry.key is None:
                continue
            kind = entry.key.get_name()
            if kind not in (keys.lookup(name) or {}):
                keys.add(name, kind, entry.key)

    def _of_hash(self, name: str) -> Iterator[str]:
        for digest, line in self._hashed:
            if paramiko.HostKeys.hash_host(name, digest) == digest:
                yield line


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


def _entry(line: str) -> HostKeyEntry | None:
    try:
        return HostKeyEntry.from_line(line)
    except (InvalidHostKey, paramiko.SSHException, ValueError):
        return None
