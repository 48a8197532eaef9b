"""`hostctl update`: replace this program by a newer one, signed by whom this host trusts.

It belongs to no app and no run, so it needs no lease and is in journald only. What is running
goes on with its old code: a process keeps the file that it was started from.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from . import archive, files, record, signature
from .errors import Refused
from .host import Host
from .names import Request

PROGRAM = "/usr/local/bin/hostctl"
STATE = "/var/lib/backline"
PROGRAM_LIMIT = 16 * 1024 * 1024
VERSION = re.compile(r"hostctl ([0-9]+(?:\.[0-9]+)*) \(protocol [0-9]+\)\s*")

Version = tuple[int, ...]


def update(host: Host, request: Request) -> dict[str, object]:
    """The verb `update`. Returns {updated, already, version, sha256}.

    Raises `Refused` (no_signers, bad_signature, bad_program, older_version, too_large) or
    `HostctlError` (upload_missing).
    """
    force = request.boolean("force")
    uploads = [host.incoming / name for name in ("hostctl", "hostctl.sig")]
    private = host.path(f"{STATE}/.update")
    with files.locked(host, host.path(f"{STATE}/update.lock")):
        try:
            files.remove_tree(private)
            private.mkdir(mode=0o700)
            answer = _replace(host, request, uploads, private, force)
        except Refused as error:
            if error.code.startswith(("bad_", "too_")):
                _discard(uploads)
            raise
        finally:
            files.remove_tree(private)
        _discard(uploads)
    return answer


def _replace(
    host: Host, request: Request, uploads: list[Path], private: Path, force: bool
) -> dict[str, object]:
    """Verify a private copy of the upload and put it in place, unless it is there already."""
    copy, signed = private / "hostctl", private / "hostctl.sig"
    sha256 = archive.copy_private(uploads[0], copy, PROGRAM_LIMIT)
    archive.copy_private(uploads[1], signed, archive.SIGNATURE_LIMIT)
    signature.verify(host, copy, signed, signature.PROGRAM)
    version, installed = _version(host, copy), host.path(PROGRAM)
    if version is None:
        raise Refused("bad_program", "the upload does not run as hostctl; nothing was replaced")
    content = copy.read_bytes()
    already = installed.is_file() and installed.read_bytes() == content
    if not already:
        _refuse_older(host, version, installed, force)
        files.write_atomic(installed, content, 0o755)
        record.announce(host, request, "done", version=_text(version), sha256=sha256)
    return {
        "updated": not already,
        "already": already,
        "version": _text(version),
        "sha256": sha256,
    }


def _refuse_older(host: Host, version: Version, installed: Path, force: bool) -> None:
    """What is installed is asked, not this process: another update may have come in between."""
    found = _version(host, installed) if installed.is_file() else None
    if found is not None and version < found and not force:
        raise Refused(
            "older_version",
            f"hostctl {_text(found)} is installed, and {_text(version)} is older; "
            "nothing was replaced",
            'to go back on purpose, send "force": true',
        )


def _version(host: Host, program: Path) -> Version | None:
    """The version that a program says it has; None when it does not run."""
    ended = host.run([host.python, "-IS", str(program), "--version"], timeout=20)
    found = VERSION.fullmatch(ended.out)
    return tuple(map(int, found[1].split("."))) if ended.status == 0 and found else None


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _discard(uploads: list[Path]) -> None:
    for upload in uploads:
        with contextlib.suppress(OSError):
            upload.unlink()
