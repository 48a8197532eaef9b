"""Uploads by SFTP that go on where an interrupted one stopped.

A file grows under `.<name>.part` and gets its name when it is whole, so whoever looks sees all of it
or nothing. Whether the bytes are right is for the host to say: it checks signature and digests.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import paramiko

INCOMING = "/var/lib/backline/incoming"
CHUNK = 1 << 15
STALL_SECONDS = 15.0


def part_name(name: str) -> str:
    """The name of a file that is not whole yet."""
    return f".{name}.part"


def put(
    sftp: paramiko.SFTPClient,
    source: Path,
    folder: str = INCOMING,
    progress: Callable[[int], None] = lambda sent: None,
) -> int:
    """Puts `source` into `folder`; returns how many bytes travelled (0 when it was there).

    `progress` gets the number of bytes that are there. Raises OSError (TimeoutError when nothing
    moves for 15 s).
    """
    size = source.stat().st_size
    target, part = f"{folder}/{source.name}", f"{folder}/{part_name(source.name)}"
    sftp.get_channel().settimeout(STALL_SECONDS)  # type: ignore[union-attr]
    if _size(sftp, target) == size:
        progress(size)
        return 0
    there = _size(sftp, part) or 0
    if there > size:
        sftp.remove(part)
        there = 0
    with source.open("rb") as local, sftp.open(part, "ab" if there else "wb") as remote:
        local.seek(there)
        remote.set_pipelined(True)
        sent = there
        while chunk := local.read(CHUNK):
            remote.write(chunk)
            sent += len(chunk)
            progress(sent)
    if _size(sftp, part) != size:
        raise OSError(f"{part} has {_size(sftp, part)} bytes instead of {size}")
    sftp.posix_rename(part, target)
    return size - there


def remove(sftp: paramiko.SFTPClient, names: Iterable[str], folder: str = INCOMING) -> None:
    """Removes the named files and what is there of them; it is fine if there is nothing."""
    for name in names:
        for path in (f"{folder}/{name}", f"{folder}/{part_name(name)}"):
            with suppress(FileNotFoundError):
                sftp.remove(path)


def _size(sftp: paramiko.SFTPClient, path: str) -> int | None:
    try:
        found = sftp.stat(path)
    except FileNotFoundError:
        return None
    if found.st_mode is not None and not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is no regular file")
    return found.st_size
