"""Staging from a patch: the kept tar and a few kilobytes give exactly what was signed."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator

import pytest

from .fake_host import R1, R2, R3, Lab

NOISE = {"app/songs.bin": os.urandom(200_000)}


@pytest.fixture
def based(lab: Lab) -> Iterator[Lab]:
    """R1 is staged from a whole archive."""
    lab.upload(R1, files=NOISE)
    lab.take(lifetime=3600)
    lab.ok("stage", release=R1)
    yield lab


def changed(number: int) -> dict[str, bytes]:
    return {**NOISE, "app/version.py": b"VERSION = %d\n" % number}


def test_a_patch_gives_the_same_release_as_its_archive(based: Lab) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    assert patch.stat().st_size < 10_000
    answer = based.ok("stage", release=R2, base=R1)
    assert answer == {"ok": True, "staged": True, "already": False}
    assert (based.releases / R2 / "app/version.py").read_bytes() == b"VERSION = 2\n"
    assert (based.releases / R2 / "app/songs.bin").read_bytes() == NOISE["app/songs.bin"]
    assert based.leftovers() == [] and list(patch.parent.iterdir()) == []
    based.upload_patch(R3, R2, files=changed(3))  # a release from a patch is a base as well
    based.ok("stage", release=R3, base=R2)
    assert [entry["tar"] for entry in based.ok("status")["releases"]] == [True] * 3
    assert based.ok("stage", release=R3, base=R2)["already"] is True


def test_the_kept_tar_is_for_root_alone_and_goes_with_its_release(based: Lab) -> None:
    tar = based.releases / R1 / "release.tar"
    assert stat.S_IMODE(tar.stat().st_mode) == 0o600
    based.plant(R2)
    based.ok("start", release=R2, process="web")
    based.ok("switch", release=R2, process="web")
    assert based.ok("prune", keep=1)["removed"] == [R1]
    assert not tar.exists()


@pytest.mark.parametrize("base", [R1, R2, R3])
def test_without_the_tar_of_its_base_a_patch_is_sent_back(based: Lab, base: str) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    patch = patch.rename(patch.with_name(f"{R2}.from-{base}.patch.zst"))
    (based.releases / R1 / "release.tar").unlink()
    entries = len(based.journal())
    assert based.refused("stage", release=R2, base=base) == (1, "no_base")
    assert len(based.journal()) == entries and not patch.exists()
    assert [path.name for path in based.releases.iterdir()] == [R1]
    based.upload(R2, files=changed(2))  # the whole archive always works
    based.ok("stage", release=R2)
    states = {entry["id"]: entry["tar"] for entry in based.ok("status")["releases"]}
    assert states == {R1: False, R2: True}


def test_a_damaged_base_is_no_base_and_is_thrown_away(based: Lab) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    tar = based.releases / R1 / "release.tar"
    tar.write_bytes(tar.read_bytes()[::-1])
    assert based.refused("stage", release=R2, base=R1) == (1, "no_base")
    assert not tar.exists() and not patch.exists()
    assert [path.name for path in based.releases.iterdir()] == [R1]
    based.upload(R2, files=changed(2))
    based.ok("stage", release=R2)


def test_a_patch_to_something_else_gives_nothing(based: Lab) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    content = patch.read_bytes()
    patch = based.upload_patch(R2, R1, files=changed(3))
    patch.write_bytes(content)
    status, code = based.refused("stage", release=R2, base=R1)
    assert status == 6 and code in ("bad_archive", "bad_digest", "too_large")
    assert [path.name for path in based.releases.iterdir()] == [R1]


def test_a_patch_is_no_larger_than_the_archive_may_be(based: Lab) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    with patch.open("ab") as file:
        file.truncate(2**40)
    assert based.refused("stage", release=R2, base=R1) == (6, "too_large")
    assert not patch.exists()


def test_a_patch_that_unpacks_to_more_than_was_signed_is_cut_off(based: Lab) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    huge = subprocess.run(["zstd", "-q", "-c"], input=bytes(2**26), stdout=-1, check=True).stdout
    patch.write_bytes(huge)
    assert based.refused("stage", release=R2, base=R1) == (6, "too_large")
    assert based.leftovers() == []


def test_a_patch_that_is_a_link_is_refused(based: Lab) -> None:
    patch = based.upload_patch(R2, R1, files=changed(2))
    patch.unlink()
    patch.symlink_to(based.releases / R1 / "release.tar")
    assert based.refused("stage", release=R2, base=R1) == (6, "bad_upload")
