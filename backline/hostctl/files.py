"""Every write hostctl makes to files that must survive a crash goes through here.

Temporary files have fixed names beside their target and are only touched under a lock, so a
file left by a killed hostctl is overwritten by the next one: nothing piles up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import HostctlError
from .host import Host
from .rest import Rest

LOCK_WAIT = 10.0
TRASH = ".*.trash"


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename durably: after this returns, a power cut leaves the new name."""
    source.rename(target)
    fsync_folder(target.parent)


def write_atomic(
    path: Path, data: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None
) -> None:
    """Replace `path` so that a reader, now or after a crash, sees all of the old or the new.

    `owner`: user and group, where they are not the writer's.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    rename(temporary, path)


def append(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Append durably."""
    new = not path.exists()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if new:
        fsync_folder(path.parent)


def point(link: Path, target: str) -> None:
    """Point the symlink `link` at `target` in one rename: there is no moment without it."""
    temporary = link.with_name(f".{link.name}.tmp")
    remove(temporary)
    temporary.symlink_to(target)
    rename(temporary, link)


def remove(path: Path) -> None:
    """Remove a file or symlink if it is there, durably."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        fsync_folder(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, if it is there."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def remove_gently(path: Path, rest: Rest) -> None:
    """Remove a folder and all below it while others work."""
    for folder, folders, names in os.walk(path, topdown=False):
        here = Path(folder)
        for name in (*names, *(name for name in folders if (here / name).is_symlink())):
            (here / name).unlink()
        here.rmdir()
        rest()


def clean_leftovers(releases: Path) -> None:
    """Remove what an unfinished stage or prune left beside the releases."""
    for pattern in (".*.incoming", ".*.partial", TRASH):
        for leftover in releases.glob(pattern):
            remove_tree(leftover)


def sync_tree(host: Host, folder: Path) -> None:
    """Make a whole tree durable: one flush of its file system, not one fsync per file."""
    ended = host.run(["sync", "--file-system", str(folder)], timeout=300)
    if ended.status != 0:
        os.sync()


def link_target(link: Path) -> str | None:
    """What a symlink points at, or None."""
    try:
        return str(link.readlink())
    except OSError:
        return None


@contextlib.contextmanager
def locked(host: Host, path: Path, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Hold the exclusive lock `path`; the kernel lets go of it when hostctl dies.

    Raises `HostctlError` (busy) after `wait` seconds, naming the process that has it.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o640), "r+") as file:
        deadline = host.boottime() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if host.boottime() >= deadline:
                    raise _busy(path, file.read(32).strip()) from None
                host.sleep(0.02)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _busy(path: Path, pid: str) -> HostctlError:
    return HostctlError(
        "busy",
        f"another hostctl (process {pid or 'unknown'}) is at work here; nothing was changed",
        f"try again in a moment; what it does: ps -fp {pid or '…'}; its lock: {path}",
    )
