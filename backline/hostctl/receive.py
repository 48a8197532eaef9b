"""What was uploaded for a release, and how it becomes a verified tar: the first half of `stage`.

Whole archives are signed byte by byte. Patches are not, but what they make of the tar of another
release must be exactly the signed tar.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from . import archive, files, settings, signature
from .errors import HostctlError, Refused, UsageError
from .host import Host
from .names import Request
from .settings import App, Manifest

SPARE_BYTES = 64 * 1024 * 1024
ARCHIVE = ".tar.zst"
SIGNED = (".release.json", ".release.json.sig")
SUFFIXES = (ARCHIVE, *SIGNED)


def uploaded(host: Host, request: Request) -> dict[str, Path]:
    """Where the uploaded files are, by suffix. They must be in the folder of uploads or below.

    With a `base`, a patch takes the place of the archive, under the archive's suffix.
    """
    incoming = host.incoming
    named = request.text("directory")
    folder = host.path(named) if named else incoming
    inside = os.path.realpath(folder) + "/"
    if not inside.startswith(os.path.realpath(incoming) + "/"):
        raise UsageError(
            "bad_field",
            f"{request.verb}: directory must be /var/lib/backline/incoming or below",
        )
    found = {suffix: folder / f"{request.release()}{suffix}" for suffix in SUFFIXES}
    if request.has("base"):
        name = f"{request.release()}.from-{request.release('base')}.patch.zst"
        found[ARCHIVE] = folder / name
    return found


def find_base(host: Host, request: Request, app: App, uploads: dict[str, Path]) -> Path | None:
    """The kept tar that the upload is a patch to; None for a whole archive.

    The folder of uploads keeps the manifest then: only the archive must be sent in full.
    Raises `HostctlError` (no_base).
    """
    if not request.has("base"):
        return None
    base = request.release("base")
    tar = settings.kept_tar(host, app, base)
    if not tar.is_file():
        discard({ARCHIVE: uploads[ARCHIVE]})
        raise _no_base(base, "has no archive")
    return tar


def _no_base(base: str, why: str) -> HostctlError:
    return HostctlError(
        "no_base",
        f"this host {why} of {base} to patch; the running release is untouched",
        "send the release in full",
        base=base,
    )


def signed_manifest(
    host: Host, app: App, release: str, uploads: dict[str, Path], private: Path
) -> Manifest:
    """Copy the manifest and its signature out of reach, verify and read them."""
    limits = {".release.json": archive.MANIFEST_LIMIT, ".release.json.sig": archive.SIGNATURE_LIMIT}
    for suffix, limit in limits.items():
        archive.copy_private(uploads[suffix], private / suffix, limit)
    manifest_file = private / ".release.json"
    signature.verify(host, manifest_file, private / ".release.json.sig")
    return signature.parse(manifest_file.read_bytes(), app.name, release)


def verified_tar(manifest: Manifest, upload: Path, private: Path, base: Path | None) -> None:
    """Copy the archive, or the patch to `base`, and leave the verified tar in `private`.

    Nobody signed a patch: it may be no larger than the archive, and what it makes is checked.
    """
    signed = manifest["archive"]
    _check_room(private, manifest)
    compressed = private / "zst"
    found = archive.copy_private(upload, compressed, signed["zst_size"])
    if base is None:
        archive.check_digest(upload.name, found, signed["zst_sha256"])
    try:
        archive.decompress(
            compressed, private / "tar", signed["tar_size"], signed["tar_sha256"], base
        )
    except Refused:
        if base is None or _is_intact(base):
            raise
        files.remove(base)  # nobody can patch it: sending all of it is the way
        discard({ARCHIVE: upload})
        raise _no_base(base.parent.name, "has a damaged archive") from None
    compressed.unlink()


def _is_intact(tar: Path) -> bool:
    """True when a kept tar is what its own release's manifest says."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        signed = json.loads((tar.parent / "release.json").read_text())["archive"]
        return bool(archive.sha256(tar) == signed["tar_sha256"])
    return False


def _check_room(folder: Path, manifest: Manifest) -> None:
    """Raise `HostctlError` (disk_full) early when staging would surely fill the disk."""
    signed, listed = manifest["archive"], manifest["files"]
    wheels = sum(entry["size"] for name, entry in listed.items() if name.endswith(".whl"))
    # The tar is kept and unpacked, hence twice; a wheel unpacks to about four times its size,
    # bytecode included.
    needed = signed["zst_size"] + 2 * signed["tar_size"] + 4 * wheels + SPARE_BYTES
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < needed:
        raise HostctlError(
            "disk_full",
            f"{folder.parent} has {free >> 20} MiB free and staging needs {needed >> 20} MiB; "
            "nothing was left behind, the running release is untouched",
            "make room (hostctl prune, journalctl --vacuum-size=…), then stage again",
        )


def discard(uploads: dict[str, Path]) -> None:
    """Remove the uploads: they have done their work, and the folder is not a store."""
    for upload in uploads.values():
        with contextlib.suppress(OSError):
            upload.unlink()
