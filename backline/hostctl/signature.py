"""Is this file one that an allowed signer signed, and is a manifest well formed?"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from .errors import HostctlError, Refused
from .host import Host
from .settings import Manifest

ALLOWED_SIGNERS = "/etc/backline/allowed_signers"
PRINCIPAL = "release@backline"
SCHEMA_VERSION = 1
FILES_LIMIT = 200_000
TOP_FOLDERS = ("app", "wheelhouse")
MODES = ("0644", "0755")
SHA256 = re.compile(r"[0-9a-f]{64}")


class Kind(NamedTuple):
    """What was signed: the namespace of its signature, its name, and what stays if it is bad."""

    namespace: str
    name: str
    unchanged: str


RELEASE = Kind("backline-release", "release", "nothing was unpacked, the running release stays")
PROGRAM = Kind("backline-hostctl", "hostctl", "nothing was replaced")


def verify(host: Host, signed: Path, signature: Path, kind: Kind = RELEASE) -> None:
    """Check the signature of the file `signed`. Raises `Refused` (no_signers, bad_signature)."""
    signers = host.path(ALLOWED_SIGNERS)
    if not signers.is_file():
        raise Refused(
            "no_signers",
            f"this host trusts no signer: {ALLOWED_SIGNERS} is missing; {kind.unchanged}",
            "set hostctl_allowed_signers in the inventory and run the playbook",
        )
    argv = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", PRINCIPAL]
    argv += ["-n", kind.namespace, "-s", str(signature)]
    ended = host.run(argv, timeout=30, stdin=signed.read_bytes())
    if ended.status == 127:
        raise HostctlError("ssh_keygen_missing", ended.err, "apt-get install openssh-client")
    if ended.status != 0:
        said = " ".join((ended.err or ended.out).split())[:200]
        raise Refused(
            "bad_signature",
            f"the signature of the {kind.name} is not one of an allowed signer ({said}); "
            f"{kind.unchanged}",
            f"sign it with a key of {ALLOWED_SIGNERS}, or find out who changed it",
        )


def parse(raw: bytes, app: str, release: str) -> Manifest:
    """The manifest of a release of `app`, checked as far as hostctl relies on it.

    Raises `Refused` (bad_manifest) or `HostctlError` (unsupported_schema).
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise _bad("it is not a JSON object")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise HostctlError(
            "unsupported_schema",
            f"release.json has schema_version {found.get('schema_version')!r}, "
            f"this hostctl reads {SCHEMA_VERSION}",
            "update hostctl on this host (role hostctl)",
        )
    for key, expected in (("id", release), ("app", app)):
        if found.get(key) != expected:
            raise _bad(f"its {key} is {found.get(key)!r}, not {expected!r}")
    if not re.fullmatch(r"[0-9]+\.[0-9]+", str(found.get("python"))):
        raise _bad(f"python is {found.get('python')!r}, not a version like 3.11")
    if not isinstance(found.get("processes"), dict):
        raise _bad("processes is not an object")
    _check_archive(found.get("archive"))
    _check_files(found.get("files"))
    return found


def _check_archive(archive: Any) -> None:
    if not isinstance(archive, dict):
        raise _bad("archive is not an object")
    for kind in ("tar", "zst"):
        _check_digest(archive.get(f"{kind}_sha256"), archive.get(f"{kind}_size"), f"archive.{kind}")


def _check_digest(sha256: object, size: object, where: str) -> None:
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise _bad(f"{where} has no SHA-256")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _bad(f"{where} has no size")


def _check_files(listed: Any) -> None:
    if not isinstance(listed, dict) or not listed or len(listed) > FILES_LIMIT:
        raise _bad(f"files is not an object of 1 to {FILES_LIMIT} files")
    folders = {str(folder) for name in listed for folder in PurePosixPath(name).parents}
    for name, entry in listed.items():
        if not is_safe_path(name):
            raise _bad(f"file name {name!r} is not a plain path below app/ or wheelhouse/")
        if name in folders:
            raise _bad(f"{name!r} is both a file and a folder")
        if not isinstance(entry, dict) or entry.get("mode") not in MODES:
            raise _bad(f"{name!r} must have mode {' or '.join(MODES)}")
        _check_digest(entry.get("sha256"), entry.get("size"), repr(name))


def is_safe_path(name: str) -> bool:
    """True for a relative path below app/ or wheelhouse/ with nothing odd in it."""
    parts = name.split("/")
    return (
        parts[0] in TOP_FOLDERS
        and len(parts) > 1
        and not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        and name.isprintable()
        and len(name.encode()) < 1024
    )


def _bad(reason: str) -> Refused:
    return Refused(
        "bad_manifest",
        f"release.json cannot be used: {reason}; nothing was unpacked",
        "build the release again with `inv release.build`",
    )
