"""`hostctl stage`: from an upload to a release that can be started, or to nothing at all.

Order: private copy → signature → manifest → digests → unpack → venv → flush → rename. What comes
as a patch to the tar of another release must give exactly the signed tar before it is unpacked.
Until the rename, everything is in two dot folders beside the releases, removed however this ends;
what an earlier, killed hostctl left there is removed first.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import archive, files, receive, record, settings, state, venv
from .errors import HostctlError, Refused
from .host import Host
from .names import Request
from .settings import App


def stage(host: Host, request: Request) -> dict[str, object]:
    """The verb `stage`. Returns {staged, already}."""
    app = settings.app(host, request.app())
    release = request.release()
    uploads = receive.uploaded(host, request)
    releases = host.path(f"{app.root}/releases")
    with files.locked(host, host.state(app.name) / "stage.lock", wait=2):
        with record.fenced(host, request):
            if settings.release_folder(host, app, release).exists():
                return _already(host, request, app, uploads)
            base = receive.find_base(host, request, app, uploads)
            record.change(host, request, "begin", release=release)
        try:
            releases.mkdir(parents=True, exist_ok=True)
            files.clean_leftovers(releases)
            partial = _build(host, app, release, uploads, base)
            with record.fenced(host, request):
                _commit(host, app, release, partial)
                record.change(host, request, "done", release=release)
        except BaseException as error:
            files.clean_leftovers(releases)
            if isinstance(error, Refused) and error.code.startswith(("bad_", "too_")):
                receive.discard(uploads)
            record.outcome(host, request, "failed", release=release, error=_code(error))
            raise
    receive.discard(uploads)
    return {"staged": True, "already": False}


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, HostctlError) else type(error).__name__


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
    receive.discard(uploads)
    return {"staged": True, "already": True}


def _build(host: Host, app: App, release: str, uploads: dict[str, Path], base: Path | None) -> Path:
    """Everything before the rename. Returns the finished folder."""
    host.yield_cpu()
    releases = host.path(f"{app.root}/releases")
    private = releases / f".{release}.incoming"
    partial = releases / f".{release}.partial"
    private.mkdir(0o700)
    manifest = receive.signed_manifest(host, app, release, uploads, private)
    receive.verified_tar(manifest, uploads[receive.ARCHIVE], private, base)
    partial.mkdir(0o755)
    archive.unpack(private / "tar", partial, manifest["files"])
    for suffix in receive.SIGNED:
        (private / suffix).chmod(0o644)
        (private / suffix).rename(partial / suffix[1:])
    (private / "tar").rename(partial / "release.tar")  # root's alone: the base of later patches
    files.remove_tree(private)
    venv.build(host, app, manifest, partial)
    files.sync_tree(host, partial)
    return partial


def _commit(host: Host, app: App, release: str, partial: Path) -> None:
    """Give the finished folder its name. The caller holds the app's lock."""
    files.rename(partial, settings.release_folder(host, app, release))
    _remember(host, app, release)


def _remember(host: Host, app: App, release: str) -> None:
    known = state.load(host, app.name)
    known["releases"].setdefault(release, {"state": "staged"})
    state.save(host, app.name, known)
