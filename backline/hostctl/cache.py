"""`hostctl cache`: drop files of nginx's cache of audio here; they are fetched again when asked for.

nginx as Debian has it cannot be told to. Each of its files begins with the key that it was kept for, so
the files are looked through; nginx takes one that is gone for one that it never had. The folder is
nginx's own: nothing in it is followed that leads out of it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from . import listener, record
from .errors import HostctlError, UsageError
from .host import Host
from .names import Request

FOLDER = "/var/cache/nginx/media"  # named by roles/streaming
LOCATION = "/_media/"
NAME = re.compile(r"[0-9a-f]{32}")
KEY, HEAD = b"\nKEY: ", 8192
# After the path come the arguments and the slice: $uri$is_args$args$slice_range.
REST = re.compile(r"(?:\?.*)?(?:bytes=\d+-\d+)?", re.DOTALL)
PATHS, PATH_LIMIT = 1000, 1024
SECONDS = 300.0


def cache(host: Host, request: Request) -> dict[str, object]:
    """The verb `cache`. `paths`: of files below the origin's root; one that ends in a star means all that
    begin so. `purge` drops them, `show` only counts. Returns {files, bytes, seen}.

    Raises `UsageError`, or `HostctlError` (no_cache, deadline).
    """
    action = request.choice("action", ("purge", "show"))
    location = request.text("location", LOCATION)
    wanted = _wanted(request, location)
    end = host.boottime() + request.seconds("seconds", SECONDS, minimum=1, maximum=3600)
    folder = host.path(FOLDER)
    if not folder.is_dir():
        raise HostctlError("no_cache", "nginx keeps no audio on this host", "ask a streaming host")
    if action == "purge":
        record.announce(host, request, "begin", action=action, paths=request.fields["paths"])
    host.yield_cpu()
    with listener.listened():
        files, size, seen = _look_through(str(folder), wanted, end, action == "purge", host)
    if action == "purge":
        record.announce(host, request, "done", action=action, files=files)
    return {"files": files, "bytes": size, "seen": seen}


def _look_through(
    folder: str, wanted: re.Pattern[str], end: float, purge: bool, host: Host
) -> tuple[int, int, int]:
    """(files, their bytes, how many were looked at). Raises `HostctlError` (deadline)."""
    seen = files = size = 0
    for fd, name in _files(folder):
        if seen % 100 == 0 and host.boottime() >= end:
            raise HostctlError(
                "deadline",
                f"not all of the cache was looked through in time: {files} of {seen} files were "
                f"{'dropped' if purge else 'meant'}",
                "give it more time",
            )
        seen += 1
        found = _key(fd, name)
        if found is None or not wanted.fullmatch(found[0]):
            continue
        files, size = files + 1, size + found[1]
        if purge:
            _drop(fd, name)
    return files, size, seen


def _wanted(request: Request, location: str) -> re.Pattern[str]:
    """What the keys of the named files look like."""
    value = request.fields.get("paths")
    if not isinstance(value, list) or not 0 < len(value) <= PATHS:
        raise UsageError("bad_field", f"cache: paths must be a list of 1 to {PATHS} paths")
    return re.compile("|".join(_pattern(location, path) for path in value), re.DOTALL)


def _pattern(location: str, path: object) -> str:
    good = isinstance(path, str) and 0 < len(path) <= PATH_LIMIT and path.isprintable()
    if not good or str(path).startswith("/") or "*" in str(path)[:-1]:
        raise UsageError(
            "bad_field",
            f"cache: {str(path)[:80]!r} is no path such as album/song.flac or album/*; nothing was dropped",
        )
    text = str(path)
    if text.endswith("*"):
        return re.escape(location + text[:-1]) + ".*"
    return re.escape(location + text) + REST.pattern


def _files(folder: str) -> Iterator[tuple[int, str]]:
    """Whole files of the cache, each with its folder's descriptor; those being written have longer names."""
    for _, _, names, fd in os.fwalk(folder):
        for name in names:
            if NAME.fullmatch(name):
                yield fd, name


def _key(fd: int, name: str) -> tuple[str, int] | None:
    """The key and the size of a file; None for one that is gone or is none of nginx's."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        head = file.read(HEAD)
    _, mark, rest = head.partition(KEY)
    key, line_end, _ = rest.partition(b"\n")
    if not mark or not line_end:
        return None
    return key.decode("utf-8", "surrogateescape"), status.st_size


def _drop(fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
