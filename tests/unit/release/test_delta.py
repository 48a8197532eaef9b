"""Patches that real zstd makes, and unmakes as a host does."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backline.errors import BacklineError
from backline.release import delta

NOISE = random.Random(1).randbytes(300_000)


def stored(folder: Path, identity: str, content: bytes) -> Any:
    tar = folder / f"{identity}.tar"
    tar.write_bytes(content)
    subprocess.run(["zstd", "-q", "-f", "-10", str(tar)], check=True)
    archive = folder / f"{identity}.tar.zst"
    tar.unlink()
    size = SimpleNamespace(zst_size=archive.stat().st_size)
    return SimpleNamespace(archive=archive, release=SimpleNamespace(id=identity, archive=size))


def test_a_patch_is_small_and_gives_the_new_release_back(tmp_path: Path) -> None:
    old, new = stored(tmp_path, "r1", NOISE), stored(tmp_path, "r2", NOISE + b"one line more\n")
    found = delta.patches(new, [old], tmp_path / "out")
    patch = found["r1"]
    assert patch.name == delta.name("r2", "r1") and patch.stat().st_size < 2000
    base, made = tmp_path / "base.tar", tmp_path / "made.tar"
    subprocess.run(["zstd", "-q", "-d", "-o", str(base), str(old.archive)], check=True)
    words = ["zstd", "-q", "-d", f"--long={delta.WINDOW}", f"--patch-from={base}"]
    subprocess.run([*words, "-o", str(made), str(patch)], check=True)
    assert made.read_bytes() == NOISE + b"one line more\n"
    assert [path.name for path in patch.parent.iterdir()] == [patch.name]


def test_a_patch_that_saves_nothing_is_not_used(tmp_path: Path) -> None:
    old = stored(tmp_path, "r1", random.Random(2).randbytes(100_000))
    new = stored(tmp_path, "r2", random.Random(3).randbytes(100_000))
    assert delta.patches(new, [old], tmp_path) == {}


def test_a_patch_is_made_once(tmp_path: Path) -> None:
    old, new = stored(tmp_path, "r1", NOISE), stored(tmp_path, "r2", NOISE + b"x")
    first = delta.patches(new, [old], tmp_path)["r1"].stat()
    assert delta.patches(new, [old], tmp_path)["r1"].stat().st_mtime_ns == first.st_mtime_ns


def test_a_damaged_archive_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    old, new = stored(tmp_path, "r1", NOISE), stored(tmp_path, "r2", NOISE + b"x")
    old.archive.write_bytes(b"no archive")
    with pytest.raises(BacklineError, match="zstd could not make a patch"):
        delta.patches(new, [old], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
