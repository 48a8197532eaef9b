"""`hostctl stage`: from an upload to a release that can be started, or to nothing at all.

Order: private copy → signature → manifest → digests → unpack → venv → flush → rename. Until the
rename, everything is in two dot folders beside the releases, removed however this ends; what an
earlier, killed hostctl left there is removed first.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from . import archive, files, record, settings, signature, state, venv
from .errors import HostctlError, Refused, UsageError
from .host import Host
from .names import Request
from .settings import App, Manifest

SPARE_BYTES = 64 * 1024 * 1024
SUFFIXES = (".tar.zst", ".release.json", ".release.json.sig")


def stage(host: Host, request: Request) -> dict[str, object]:
    """The verb `stage`. Returns {staged, already}."""
    app = settings.app(host, request.app())
    release = request.release()
    uploads = _uploads(host, request)
    releases = host.path(f"{app.root}/releases")
    with files.locked(host, host.state(app.name) / "stage.lock", wait=2):
        with record.fenced(host, request):
            if settings.release_folder(host, app, release).exists():
                return _already(host, request, app, uploads)
            record.change(host, request, "begin", release=release)
        try:
            releases.mkdir(parents=True, exist_ok=True)
            files.clean_leftovers(releases)
            partial = _build(host, app, release, uploads, releases)
            with record.fenced(host, request):
                _commit(host, app, release, partial)
                record.change(host, request, "done", release=release)
        except BaseException as error:
            files.clean_leftovers(releases)
            if isinstance(error, Refused) and error.code.startswith(("bad_", "too_")):
                _discard(uploads)
            record.outcome(host, request, "failed", release=release, error=_code(error))
            raise
    _discard(uploads)
    return {"staged": True, "already": False}


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, HostctlError) else type(error).__name__


def _uploads(host: Host, request: Request) -> dict[str, Path]:
    """Where the uploaded files are, by suffix. They must be in the folder of uploads or below."""
    incoming = host.incoming
    named = request.text("directory")
    folder = host.path(named) if named else incoming
    inside = os.path.realpath(folder) + "/"
    if not inside.startswith(os.path.realpath(incoming) + "/"):
        raise UsageError(
            "bad_field", "stage: directory must be /var/lib/backline/incoming or below"
        )
    return {suffix: folder / f"{request.release()}{suffix}" for suffix in SUFFIXES}


def _already(host: Host, request: Request, app: App, uploads: dict[str, Path]) -> dict[str, object]:
    """The answer for a release that is here: it came through `stage`, so it is whole.

    An upload of the same name with another content is refused, not ignored.
    """
    release, upload = request.release(), uploads[".release.json"]
    staged = settings.release_folder(host, app, release) / "release.json"
    if os.path.lexists(upload) and not archive.same_content(upload, staged):
        raise Refused(
            "release_conflict",
            f"another release {release} is already staged here; nothing was changed",
            "a release ID names one content for good: build the release again",
        )
    if release not in state.load(host, app.name)["releases"]:  # killed right after the rename
        _remember(host, app, release)
        record.change(host, request, "done", release=release)
    _discard(uploads)
    return {"staged": True, "already": True}


def _build(host: Host, app: App, release: str, uploads: dict[str, Path], releases: Path) -> Path:
    """Everything before the rename. Returns the finished folder."""
    host.yield_cpu()
    private = releases / f".{release}.incoming"
    partial = releases / f".{release}.partial"
    private.mkdir(0o700)
    manifest = _receive(host, app, release, uploads, private)
    partial.mkdir(0o755)
    archive.unpack(private / "tar", partial, manifest["files"])
    for suffix in (".release.json", ".release.json.sig"):
        (private / suffix).chmod(0o644)
        (private / suffix).rename(partial / suffix[1:])
    files.remove_tree(private)
    venv.build(host, app, manifest, partial)
    files.sync_tree(host, partial)
    return partial


def _receive(
    host: Host, app: App, release: str, uploads: dict[str, Path], private: Path
) -> Manifest:
    """Copy the uploads out of reach, verify them, and leave the verified tar in `private`."""
    limits = {".release.json": archive.MANIFEST_LIMIT, ".release.json.sig": archive.SIGNATURE_LIMIT}
    for suffix, limit in limits.items():
        archive.copy_private(uploads[suffix], private / suffix, limit)
    manifest_file = private / ".release.json"
    signature.verify(host, manifest_file, private / ".release.json.sig")
    manifest = signature.parse(manifest_file.read_bytes(), app.name, release)
    signed = manifest["archive"]
    _check_room(private, manifest)
    compressed = private / "zst"
    found = archive.copy_private(uploads[".tar.zst"], compressed, signed["zst_size"])
    archive.check_digest(f"{release}.tar.zst", found, signed["zst_sha256"])
    archive.decompress(compressed, private / "tar", signed["tar_size"], signed["tar_sha256"])
    compressed.unlink()
    return manifest


def _check_room(folder: Path, manifest: Manifest) -> None:
    """Raise `HostctlError` (disk_full) early when staging would surely fill the disk."""
    signed, listed = manifest["archive"], manifest["files"]
    wheels = sum(entry["size"] for name, entry in listed.items() if name.endswith(".whl"))
    # A wheel unpacks to about four times its size, bytecode included.
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


def _commit(host: Host, app: App, release: str, partial: Path) -> None:
    """Give the finished folder its name. The caller holds the app's lock."""
    files.rename(partial, settings.release_folder(host, app, release))
    _remember(host, app, release)


def _remember(host: Host, app: App, release: str) -> None:
    known = state.load(host, app.name)
    known["releases"].setdefault(release, {"state": "staged"})
    state.save(host, app.name, known)


def _discard(uploads: dict[str, Path]) -> None:
    """Remove the uploads: they have done their work, and the folder is not a store."""
    for upload in uploads.values():
        with contextlib.suppress(OSError):
            upload.unlink()
