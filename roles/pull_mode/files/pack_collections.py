#!/usr/bin/env python3
"""Pack the controller's own copies of some Ansible collections: pack_collections.py FOLDER NAME…

Prints {"archive": path, "digest": …}; the archive is named by its content, so the same collections
always give the same file. Their tests and documentation stay behind.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

LEFT_BEHIND = {"tests", "docs", "changelogs", ".github", ".azure-pipelines", "__pycache__"}


def roots() -> list[Path]:
    """Where collections may lie: named by Ansible's variable, or beside the `ansible` package."""
    named = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(":")
    found = [Path(path) / "ansible_collections" for path in named if path]
    return found + [Path(path) for path in importlib.import_module("ansible_collections").__path__]


def folder(name: str) -> Path:
    """The folder of a collection; SystemExit when the controller does not have it."""
    for root in roots():
        place = root / Path(*name.split("."))
        if place.is_dir():
            return place
    sys.exit(f"the controller has no collection {name}")


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if LEFT_BEHIND & set(Path(member.name).parts[3:4]) or "__pycache__" in member.name:
        return None
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member


def pack(names: list[str]) -> bytes:
    """A tar with ansible_collections/NAMESPACE/NAME for each name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in sorted(names):
            place = folder(name)
            arcname = Path("ansible_collections", *name.split("."))
            # tarfile walks a folder in sorted order.
            archive.add(place, arcname=str(arcname), filter=plain)
    return gzip.compress(buffer.getvalue(), mtime=0)


def main(into: str, *names: str) -> None:
    content = pack(list(names))
    digest = hashlib.sha256(content).hexdigest()[:16]
    archive = Path(into) / f"{digest}.tar.gz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        partial = archive.with_name(f".{archive.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(archive)
    print(json.dumps({"archive": str(archive), "digest": digest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
