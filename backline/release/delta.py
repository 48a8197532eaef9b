"""Patches: what a host that has one release needs to make another out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from backline.errors import BacklineError
from backline.release.store import Stored
from backline.transport import local

LEVEL = 9
"""Beyond it a patch of a changed line is 400 bytes smaller and takes 20 times as long."""
WINDOW = 31
"""log2 of how far back a match may lie: the whole of the old tar and of the new one."""
SECONDS = 600.0
WORTH = 0.7
"""A patch that is not smaller than this share of the archive is not worth its trouble."""


def name(release: str, base: str) -> str:
    """The patch's file name, here and on the hosts."""
    return f"{release}.from-{base}.patch.zst"


def patches(stored: Stored, bases: Iterable[Stored], out: Path) -> dict[str, Path]:
    """The patches to `stored` from those bases for which one is worth it, by base; made in `out`
    where they are missing. Raises BacklineError when zstd is missing or fails."""
    found: dict[str, Path] = {}
    for base in bases:
        path = out / name(stored.release.id, base.release.id)
        if not path.exists():
            _make(base.archive, stored.archive, path)
        if path.stat().st_size < WORTH * stored.release.archive.zst_size:
            found[base.release.id] = path
    return found


def _make(old: Path, new: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    old_tar, new_tar = (partial.with_name(f"{partial.name}.{end}") for end in ("old", "new"))
    try:
        for archive, tar in ((old, old_tar), (new, new_tar)):
            _zstd("--decompress", "-o", str(tar), str(archive))
        _zstd(
            f"-{LEVEL}", f"--long={WINDOW}", "-T0", f"--patch-from={old_tar}",
            "-o", str(partial), str(new_tar),
        )  # fmt: skip
        partial.replace(out)
    finally:
        for leftover in (partial, old_tar, new_tar):
            leftover.unlink(missing_ok=True)


def _zstd(*words: str) -> None:
    done = local.run(["zstd", "-q", "-f", "--no-progress", *words], deadline=SECONDS)
    if done.code:
        raise BacklineError(
            f"zstd could not make a patch: {done.stderr.strip()[-300:]}",
            state="nothing was changed",
            hint="is the disk full? `df -h` tells; --whole sends the archive instead",
        )
