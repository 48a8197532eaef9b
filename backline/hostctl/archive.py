"""From an upload that anybody may change to files that nobody else can: copy, verify, unpack.

Nothing here holds a whole file in memory. Nothing is unpacked before its digest was checked, and
what is unpacked is only what the signed manifest lists.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from .errors import HostctlError, Refused
from .host import PLAIN_ENVIRONMENT
from .signature import is_safe_path

CHUNK = 1024 * 1024
MANIFEST_LIMIT = 64 * 1024 * 1024
SIGNATURE_LIMIT = 64 * 1024


def open_upload(source: Path) -> BinaryIO:
    """Open an uploaded file, once, without following a link, and only if it is a plain file.

    Raises `HostctlError` (upload_missing) or `Refused` (bad_upload).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(source, flags)
    except FileNotFoundError:
        raise HostctlError(
            "upload_missing", f"{source} is not there", "ship the release to this host first"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise
        raise Refused("bad_upload", f"{source} is not a plain file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused("bad_upload", f"{source} is not a plain file")
    return os.fdopen(descriptor, "rb")


def copy_private(source: Path, target: Path, limit: int) -> str:
    """Copy an uploaded file of at most `limit` bytes and return the SHA-256 of the copy.

    Raises what `open_upload` raises, and `Refused` (too_large).
    """
    with open_upload(source) as reader, open_new(target, 0o600) as writer:
        return _pour(reader, writer, limit, source.name)


def same_content(upload: Path, trusted: Path) -> bool:
    """True when an uploaded file has the bytes of a small file of ours."""
    expected = trusted.read_bytes()
    with open_upload(upload) as reader:
        return reader.read(len(expected) + 1) == expected


def open_new(path: Path, mode: int) -> BinaryIO:
    """Create a file that must not exist yet."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, mode), "wb")


def _pour(reader: IO[bytes], writer: BinaryIO, limit: int, name: str) -> str:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(reader):
        size += len(chunk)
        if size > limit:
            raise Refused(
                "too_large",
                f"{name} is larger than the {limit} bytes it may have; "
                "nothing was unpacked, the running release stays",
                "ship the release again; if it comes back, find out who changes it on the way",
            )
        digest.update(chunk)
        writer.write(chunk)
    return digest.hexdigest()


def _chunks(reader: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: reader.read(CHUNK), b"")


def decompress(
    compressed: Path, target: Path, size: int, sha256: str, base: Path | None = None
) -> None:
    """Decompress a zstd file into a tar of exactly the signed size and digest.

    With `base`, the file is a patch to the tar `base`. Raises `Refused` (bad_archive, bad_digest,
    too_large).
    """
    argv = ["zstd", "--decompress", "--stdout", "--quiet", "--no-progress"]
    if base is not None:
        argv += [f"--patch-from={base}", "--long=31", "--memory=2048MB"]
    argv += ["--", str(compressed)]
    try:
        zstd = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=PLAIN_ENVIRONMENT
        )
    except FileNotFoundError:
        raise HostctlError(
            "zstd_missing", "this host has no zstd", "apt-get install zstd"
        ) from None
    assert zstd.stdout is not None and zstd.stderr is not None
    with zstd, zstd.stdout as pipe:
        try:
            with open_new(target, 0o600) as writer:
                found = _pour(pipe, writer, size, "the decompressed archive")
        except BaseException:
            zstd.kill()
            raise
        said = zstd.stderr.read(2000).decode("utf-8", "replace").strip()
    if zstd.returncode != 0:
        raise Refused("bad_archive", f"zstd cannot read the archive: {said}; nothing was unpacked")
    check_digest("the decompressed archive", found, sha256)


def sha256(path: Path) -> str:
    """The SHA-256 of a file of ours."""
    digest = hashlib.sha256()
    with path.open("rb") as reader:
        for chunk in _chunks(reader):
            digest.update(chunk)
    return digest.hexdigest()


def check_digest(name: str, found: str, expected: str) -> None:
    """Raise `Refused` (bad_digest) unless the digests are the same."""
    if found != expected:
        raise Refused(
            "bad_digest",
            f"{name} is not the one that was signed (SHA-256 {found[:12]}…, "
            f"signed {expected[:12]}…); nothing was unpacked, the running release stays",
            "ship the release again; if it comes back, find out who changes it on the way",
        )


def unpack(archive: Path, folder: Path, listed: dict[str, Any]) -> None:
    """Unpack a tar into the new folder `folder`: the manifest's files, all of them, nothing else.

    Every file's size, digest and mode are the manifest's. Raises `Refused` (bad_archive).
    """
    missing = set(listed)
    made = {""}
    try:
        with tarfile.open(archive, mode="r|") as tar:
            for member in tar:
                name = member.name.rstrip("/") if member.isdir() else member.name
                if member.isdir() and (name in ("app", "wheelhouse") or is_safe_path(name)):
                    continue  # folders are made for the files in them, never on their own word
                _refuse_member(member, missing, listed)
                _make_folders(folder, name.rpartition("/")[0], made)
                reader = tar.extractfile(member)
                assert reader is not None
                _unpack_file(reader, folder / name, listed[name])
                missing.discard(name)
    except (tarfile.TarError, EOFError) as error:
        raise Refused("bad_archive", f"the archive is not a readable tar: {error}") from None
    if missing:
        example = min(missing)
        raise Refused(
            "bad_archive", f"{len(missing)} files of the manifest are not in the archive: {example}"
        )


def _refuse_member(member: tarfile.TarInfo, missing: set[str], listed: dict[str, Any]) -> None:
    """Raise unless the member is a plain file that the manifest lists and that did not come yet."""
    if not member.isreg():
        raise Refused("bad_archive", f"{member.name!r} in the archive is not a plain file")
    if member.name not in listed:
        raise Refused("bad_archive", f"{member.name!r} in the archive is not in the manifest")
    if member.name not in missing:
        raise Refused("bad_archive", f"{member.name!r} is twice in the archive")


def _make_folders(root: Path, relative: str, made: set[str]) -> None:
    if relative in made:
        return
    _make_folders(root, relative.rpartition("/")[0], made)
    (root / relative).mkdir(0o755)
    made.add(relative)


def _unpack_file(reader: IO[bytes], target: Path, entry: dict[str, Any]) -> None:
    with open_new(target, int(entry["mode"], 8)) as writer:
        found = _pour(reader, writer, entry["size"], target.name)
        os.fchmod(writer.fileno(), int(entry["mode"], 8))
    if found != entry["sha256"]:
        raise Refused("bad_archive", f"{target.name} does not have the digest of the manifest")
