#!/usr/bin/python3
"""The host's half of publish_folder: says what is missing, and puts files in place whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import IO

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: publish_folder
short_description: Publishes a folder of the controller on a host
description:
  - Sends the files whose size or time of change (in seconds) differs from the host's, in few
    large transfers. On the host each is checked against its SHA-256, flushed to disk and renamed
    into place, so that a reader sees the old file or the new one. Hidden files are left out.
  - Keeps C(.manifest.sha256) in dest, which C(sha256sum --check) reads.
  - A file with the same content and another time of change is not sent again.
options:
  src:
    description: The folder on the controller.
    type: str
    required: true
  dest:
    description: The folder on the host.
    type: path
    required: true
  exclude:
    description: Shell patterns of paths in src to leave out.
    type: list
    elements: str
    default: []
  purge:
    description: Whether files that src does not have are removed.
    type: bool
    default: false
  replace:
    description: Whether other content may take the place of a published file; otherwise that is an error.
    type: bool
    default: false
author: Backline
"""
EXAMPLES = """
- publish_folder: {src: /srv/library, dest: /srv/media}
"""
RETURN = """
published: {description: Paths that were sent., type: list, returned: always}
removed: {description: Paths that were removed., type: list, returned: always}
confirmed: {description: Paths whose content was compared and is the same., type: list, returned: always}
"""

RESERVE = 64 * 1024 * 1024  # bytes of the disk that publishing leaves free
MANIFEST = ".manifest.sha256"


def read_manifest(dest: Path) -> dict[str, str]:
    """{path: SHA-256} of what was published; empty without a manifest."""
    try:
        lines = (dest / MANIFEST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def write_manifest(dest: Path, digests: dict[str, str]) -> None:
    """Replaces the manifest, as `sha256sum` writes it."""
    text = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    partial = dest / f"{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(dest / MANIFEST)


def present(dest: Path) -> dict[str, list[int]]:
    """Size and time of change (whole seconds) of the files below dest, without hidden ones."""
    found = {}
    for place, folders, names in os.walk(dest):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = Path(place, name)
                status = path.lstat()
                found[path.relative_to(dest).as_posix()] = [status.st_size, int(status.st_mtime)]
    return found


def compare(module: AnsibleModule, dest: Path) -> None:
    """Answers with the paths to send, those that differ, those to look into, those to remove.

    Fails when a name fits no manifest or the disk cannot hold them.
    """
    wanted, here, listed = module.params["files"], present(dest), read_manifest(dest)
    odd = [path for path in wanted if "\n" in path or "\\" in path or "\r" in path]
    if odd:
        module.fail_json(msg=f"{odd[0]!r}: no line break or backslash in a name. Nothing was sent.")
    missing = [path for path in wanted if path not in here]
    other = [path for path in wanted if path in here and here[path][0] != wanted[path][0]]
    known = [path for path in wanted if path in here and path not in other]
    doubtful = [path for path in known if here[path] != list(wanted[path]) or path not in listed]
    unwanted = sorted(set(here) - set(wanted)) if module.params["purge"] else []
    need = sum(wanted[path][0] for path in missing + other)
    if need and dest.is_dir() and shutil.disk_usage(dest).free < need + RESERVE:
        free = shutil.disk_usage(dest).free
        module.fail_json(
            msg=f"{dest}: {len(missing + other)} files of {need >> 20} MiB do not fit, "
            f"{free >> 20} MiB are free. Nothing was sent; the files that were there are served as "
            "before."
        )
    module.exit_json(
        changed=False, missing=missing, other=other, doubtful=doubtful, unwanted=unwanted
    )


def confirm(module: AnsibleModule, dest: Path) -> None:
    """Answers which files hold the bytes of `digests`; those get the time of change of `files`."""
    same = []
    for path, digest in module.params["digests"].items():
        seen = hashlib.sha256()
        with (dest / path).open("rb") as file:
            while block := file.read(1 << 20):
                seen.update(block)
        if seen.hexdigest() == digest:
            same.append(path)
    if same and not module.check_mode:
        for path in same:
            mtime = module.params["files"][path][1]
            os.utime(dest / path, (mtime, mtime))
        write_manifest(
            dest, read_manifest(dest) | {path: module.params["digests"][path] for path in same}
        )
    module.exit_json(changed=bool(same), same=same)


def place(source: IO[bytes], target: Path, digest: str, mtime: float) -> None:
    """Writes one file beside its target and renames it; ValueError if it is not what was sent."""
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    seen = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            while block := source.read(1 << 20):
                seen.update(block)
                file.write(block)
            if seen.hexdigest() != digest:
                raise ValueError(f"{target}: what arrived is not what was sent")
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.utime(partial, (mtime, mtime))
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def unpack(module: AnsibleModule, dest: Path) -> None:
    """Puts the files of the archive in place; the archive holds what digests names, no more."""
    digests = module.params["digests"]
    with tarfile.open(module.params["archive"]) as tar:
        for member in tar:
            source = tar.extractfile(member)
            if member.name not in digests or source is None or ".." in Path(member.name).parts:
                raise ValueError(f"{member.name}: not a file that was announced")
            place(source, dest / member.name, digests[member.name], int(member.mtime))
    Path(module.params["archive"]).unlink()
    write_manifest(dest, read_manifest(dest) | digests)
    os.sync()
    module.exit_json(changed=True)


def remove(module: AnsibleModule, dest: Path) -> None:
    """Removes the named files, and folders that they leave empty."""
    gone = module.params["names"]
    write_manifest(
        dest, {path: digest for path, digest in read_manifest(dest).items() if path not in gone}
    )
    for name in gone:
        (dest / name).unlink(missing_ok=True)
        for folder in list((dest / name).parents):
            if folder == dest or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
    module.exit_json(changed=True)


def main() -> None:
    """One step, as the action plugin asks for it."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "step": {"choices": ["compare", "confirm", "unpack", "remove"], "required": True},
            "purge": {"type": "bool", "default": False},
            "files": {"type": "dict", "default": {}},
            "archive": {"type": "path"},
            "digests": {"type": "dict", "default": {}},
            "names": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    steps = {"compare": compare, "confirm": confirm, "unpack": unpack, "remove": remove}
    try:
        steps[module.params["step"]](module, Path(module.params["dest"]))
    except (OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(
            msg=f"{error}. Files that were put in place before are whole, the others are as they "
            "were; a second run continues."
        )


if __name__ == "__main__":
    main()
