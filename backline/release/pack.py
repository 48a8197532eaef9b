"""Packs files into a deterministic tar, compressed on the way: same files, same bytes."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from backline.errors import BacklineError
from backline.release.collect import mode
from backline.release.model import Archive, File
from backline.transport import local

LEVEL = 10
FORMAT = tarfile.GNU_FORMAT


@dataclass(frozen=True)
class Entry:
    """One file to pack: where it is now, and its name in the release."""

    source: Path
    name: str


def pack(entries: Iterable[Entry], target: Path, mtime: int) -> tuple[Archive, dict[str, File]]:
    """Writes `target` (.tar.zst) from `entries`, sorted by name, all of user 0 and of time `mtime`.

    Returns digests of the whole and of every file. Raises BacklineError when zstd is missing or
    fails, for instance because the disk is full.
    """
    files: dict[str, File] = {}
    words = ["zstd", "-q", f"-{LEVEL}", "-T0", "--no-progress", "-f", "-o", str(target)]
    process = local.start(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None and process.stderr is not None
    try:
        stream = _Hashing(process.stdin)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="w|", format=FORMAT) as tar:
            for entry in sorted(entries, key=lambda entry: entry.name):
                files[entry.name] = _add(tar, entry, mtime)
        process.stdin.close()
        said = process.stderr.read().decode(errors="replace").strip()
        code = process.wait()
    except BrokenPipeError:
        said = process.stderr.read().decode(errors="replace").strip()
        code = process.wait() or 1
    except BaseException:
        local.end(process)
        raise
    if code:
        raise BacklineError(
            f"zstd could not write {target}: {said}",
            state="nothing was built",
            hint="is the disk full? `df -h` tells",
        )
    archive = Archive(
        tar_sha256=stream.digest.hexdigest(),
        tar_size=stream.size,
        zst_sha256=sha256(target),
        zst_size=target.stat().st_size,
    )
    return archive, files


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hashing:
    """A sink that counts and digests what passes."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.sink = sink
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        self.sink.write(data)
        return len(data)


def _add(tar: tarfile.TarFile, entry: Entry, mtime: int) -> File:
    content = entry.source.read_bytes()
    member = tarfile.TarInfo(entry.name)
    member.size, member.mtime, member.mode = len(content), mtime, mode(entry.source)
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    with entry.source.open("rb") as file:
        tar.addfile(member, file)
    return File(
        sha256=hashlib.sha256(content).hexdigest(), size=len(content), mode=f"{member.mode:04o}"
    )
