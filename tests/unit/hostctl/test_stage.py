"""Staging: a verified release as a whole, or nothing at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import archive, files, receive, venv

from .fake_host import R1, R2, Lab, add_file, make_wheel, sign


def assert_nothing_left(lab: Lab) -> None:
    assert list(lab.releases.iterdir()) == []
    assert "done" not in [entry["event"] for entry in lab.journal() if entry["verb"] == "stage"]


def test_a_release_is_staged_whole(lab: Lab) -> None:
    def make_executable(manifest: dict[str, Any]) -> None:
        manifest["files"]["app/run.sh"]["mode"] = "0755"

    incoming = lab.upload(
        files={"app/run.sh": b"#!/bin/sh\n", "app/naïve name.txt": b"x"},
        wheels=(make_wheel(),),
        change_manifest=make_executable,
    )
    lab.take()
    assert lab.ok("stage", release=R1) == {"ok": True, "staged": True, "already": False}
    release = lab.releases / R1
    assert sorted(path.name for path in release.iterdir()) == [
        "app", "release.json", "release.json.sig", "release.tar", "venv", "wheelhouse"
    ]  # fmt: skip
    assert (release / "app/static/a.css").read_bytes() == b"a{}\n"
    assert (release / "app/run.sh").stat().st_mode & 0o777 == 0o755
    assert (release / "app/manage.py").stat().st_mode & 0o777 == 0o644
    assert (release / "release.json").stat().st_mode & 0o777 == 0o644
    assert release.stat().st_mode & 0o777 == 0o755
    said = subprocess.run([release / "venv/bin/greet"], capture_output=True, text=True, check=True)
    assert said.stdout == f"hello {release}/venv\n"
    assert lab.leftovers() == [] and list(incoming.iterdir()) == []
    assert [entry["event"] for entry in lab.journal()] == ["take", "begin", "done"]


def test_staging_again_is_harmless_and_needs_no_upload(lab: Lab) -> None:
    lab.upload()
    lab.take()
    lab.ok("stage", release=R1)
    entries = len(lab.journal())
    assert lab.ok("stage", release=R1) == {"ok": True, "staged": True, "already": True}
    assert len(lab.journal()) == entries


def test_another_release_under_the_same_id_is_refused(lab: Lab) -> None:
    lab.upload()
    lab.take()
    lab.ok("stage", release=R1)
    lab.upload(files={"app/new.py": b"new"})
    assert lab.refused("stage", release=R1) == (6, "release_conflict")
    assert not (lab.releases / R1 / "app/new.py").exists()


def flip_a_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("suffix", "code"),
    [
        (".tar.zst", "bad_digest"),
        (".release.json", "bad_signature"),
        (".release.json.sig", "bad_signature"),
    ],
)
def test_a_tampered_file_is_refused(lab: Lab, suffix: str, code: str) -> None:
    incoming = lab.upload()
    flip_a_byte(incoming / f"{R1}{suffix}")
    lab.take()
    assert lab.refused("stage", release=R1) == (6, code)
    assert_nothing_left(lab)
    assert list(incoming.iterdir()) == []
    lab.upload()
    lab.ok("stage", release=R1)


def test_nothing_is_unpacked_before_signature_and_digest(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("unpacked unverified data")

    monkeypatch.setattr(archive, "unpack", never)
    monkeypatch.setattr(archive, "decompress", never)
    for suffix in (".tar.zst", ".release.json", ".release.json.sig"):
        flip_a_byte(lab.upload() / f"{R1}{suffix}")
        lab.take()
        assert lab.refused("stage", release=R1)[0] == 6


def test_a_signer_who_is_not_allowed_is_refused(lab: Lab) -> None:
    incoming = lab.upload()
    sign(incoming / f"{R1}.release.json", lab.keys["stranger"])
    lab.take()
    assert lab.refused("stage", release=R1) == (6, "bad_signature")
    assert_nothing_left(lab)


def test_an_allowed_signer_of_something_else_is_refused(lab: Lab) -> None:
    incoming = lab.upload()
    manifest = incoming / f"{R1}.release.json"
    manifest.with_name(manifest.name + ".sig").unlink()
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(lab.keys["release"]), "-n", "file"]
    subprocess.run([*argv, str(manifest)], check=True, stderr=subprocess.DEVNULL)
    lab.take()
    assert lab.refused("stage", release=R1) == (6, "bad_signature")


def test_a_host_without_signers_trusts_nobody(lab: Lab) -> None:
    lab.upload()
    lab.path("etc/backline/allowed_signers").unlink()
    lab.take()
    assert lab.refused("stage", release=R1) == (6, "no_signers")
    assert_nothing_left(lab)


@pytest.mark.parametrize(
    ("suffix", "code"), [(".tar.zst", "too_large"), (".release.json.sig", "too_large")]
)
def test_an_upload_with_bytes_added_is_not_read_to_its_end(
    lab: Lab, suffix: str, code: str
) -> None:
    incoming = lab.upload()
    with (incoming / f"{R1}{suffix}").open("ab") as file:
        file.truncate(2**40)  # a sparse terabyte
    lab.take()
    assert lab.refused("stage", release=R1) == (6, code)
    assert_nothing_left(lab)


@pytest.mark.parametrize("suffix", [".tar.zst", ".release.json", ".release.json.sig"])
def test_links_and_fifos_are_no_uploads(lab: Lab, suffix: str) -> None:
    incoming = lab.upload()
    lab.take()
    path = incoming / f"{R1}{suffix}"
    secret = lab.path("secret")
    path.rename(secret)
    path.symlink_to(secret)
    assert lab.refused("stage", release=R1) == (6, "bad_upload")
    assert secret.exists()
    lab.upload()
    path.unlink()
    os.mkfifo(path)
    assert lab.refused("stage", release=R1) == (6, "bad_upload")
    lab.upload()
    path.unlink()
    path.mkdir()
    assert lab.refused("stage", release=R1) == (6, "bad_upload")
    assert_nothing_left(lab)


def test_a_missing_upload_says_so(lab: Lab) -> None:
    lab.take()
    assert lab.refused("stage", release=R1) == (1, "upload_missing")
    assert_nothing_left(lab)


@pytest.mark.parametrize("directory", ["/tmp", "/", "/var/lib/backline", "incoming/../../jukebox"])
def test_uploads_come_from_one_folder_only(lab: Lab, directory: str) -> None:
    lab.take()
    assert lab.refused("stage", release=R1, directory=directory) == (2, "bad_field")


def test_an_upload_changed_while_it_is_staged_does_no_harm(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is verified and the copy is unpacked: what happens to the upload is no matter."""
    incoming = lab.upload()
    lab.take()
    real = archive.decompress

    def change_then_decompress(*arguments: Any) -> None:
        for suffix in receive.SUFFIXES:
            (incoming / f"{R1}{suffix}").write_bytes(b"evil")
        real(*arguments)

    monkeypatch.setattr(archive, "decompress", change_then_decompress)
    lab.ok("stage", release=R1)
    assert json.loads((lab.releases / R1 / "release.json").read_text())["id"] == R1


def member(name: str, data: bytes = b"x", **attributes: Any) -> Callable[[tarfile.TarFile], None]:
    return lambda tar: add_file(tar, name, data, **attributes)


ODD_MEMBERS = {
    "parent": member("../evil"),
    "hidden parent": member("app/../../evil"),
    "absolute": member("/etc/evil"),
    "dot": member("./app/manage.py"),
    "not listed": member("app/extra.py"),
    "in another folder": member("venv/bin/python"),
    "manifest": member("release.json"),
    "symlink": member("app/link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "symlink of a listed name": member(
        "app/manage.py", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"
    ),
    "hard link": member("app/hard", b"", type=tarfile.LNKTYPE, linkname="app/manage.py"),
    "character device": member("app/null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "fifo": member("app/fifo", b"", type=tarfile.FIFOTYPE),
    "twice": member("app/manage.py", b"print('manage')\n"),
    "twice, different": member("app/manage.py", b"evil"),
    "odd folder": member("../out", b"", type=tarfile.DIRTYPE),
    "file as folder": member("app/manage.py/x"),
}


@pytest.mark.parametrize("change", ODD_MEMBERS.values(), ids=ODD_MEMBERS.keys())
def test_odd_members_are_refused_even_when_signed(
    lab: Lab, change: Callable[[tarfile.TarFile], None]
) -> None:
    lab.upload(change_tar=change)
    lab.take()
    assert lab.refused("stage", release=R1) == (6, "bad_archive")
    assert_nothing_left(lab)
    assert not list(lab.root.rglob("evil")) and not list(lab.root.rglob("out"))


def test_modes_come_from_the_manifest_not_from_the_archive(lab: Lab) -> None:
    lab.upload(
        leave_out="app/manage.py",
        change_tar=member("app/manage.py", b"print('manage')\n", mode=0o6777, uid=33),
    )
    lab.take()
    lab.ok("stage", release=R1)
    found = (lab.releases / R1 / "app/manage.py").stat()
    assert found.st_mode & 0o7777 == 0o644 and found.st_uid == os.geteuid()


def test_a_file_missing_from_the_archive_is_refused(lab: Lab) -> None:
    lab.upload(leave_out="app/manage.py")
    lab.take()
    assert lab.refused("stage", release=R1) == (6, "bad_archive")
    assert_nothing_left(lab)


def edit(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        *folders, last = path.split("|")
        for folder in folders:
            manifest = manifest[folder]
        manifest[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("id", R2, 6),
        ("app", "radio", 6),
        ("schema_version", 2, 1),
        ("python", "3; rm", 6),
        ("python", "2.7", 1),
        ("processes", [], 6),
        ("files", {}, 6),
        ("files", [], 6),
        ("archive", None, 6),
        ("archive|tar_sha256", "0" * 64, 6),
        ("archive|zst_sha256", "0" * 64, 6),
        ("archive|zst_size", 5, 6),
        ("archive|tar_size", 5, 6),
        ("archive|tar_size", -1, 6),
        ("files|app/manage.py|sha256", "0" * 64, 6),
        ("files|app/manage.py|size", 3, 6),
        ("files|app/manage.py|mode", "4755", 6),
        ("files|../evil", {"sha256": "0" * 64, "size": 0, "mode": "0644"}, 6),
        ("files|app//x", {"sha256": "0" * 64, "size": 0, "mode": "0644"}, 6),
        ("files|app/manage.py/x", {"sha256": "0" * 64, "size": 0, "mode": "0644"}, 6),
        ("files|app/\x1b[2J", {"sha256": "0" * 64, "size": 0, "mode": "0644"}, 6),
        ("archive|tar_size", 10**15, 1),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_even_when_signed(
    lab: Lab, path: str, value: object, status: int
) -> None:
    lab.upload(change_manifest=edit(path, value))
    lab.take()
    assert lab.refused("stage", release=R1)[0] == status
    assert_nothing_left(lab)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.upload()
    lab.take()
    lab.plant(R2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    for module, name in ((archive, "_unpack_file"), (archive, "_pour"), (venv, "build")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            status, answer = lab.call("stage", release=R1)
        assert (status, answer["error"]["code"]) == (1, "disk_full")
        assert [path.name for path in lab.releases.iterdir()] == [R2]
    assert lab.journal()[-1]["event"] == "failed"
    lab.ok("stage", release=R1)


def test_what_a_killed_hostctl_left_is_removed(lab: Lab) -> None:
    for name in (f".{R1}.partial", f".{R1}.incoming", f".{R2}.trash"):
        (lab.releases / name / "app").mkdir(parents=True)
    lab.upload()
    lab.take()
    lab.ok("stage", release=R1)
    assert lab.leftovers() == []


def test_a_lease_lost_while_staging_puts_nothing_in_place(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewal and takeover do not wait for a stage, and a stage sees them at its end."""
    lab.upload()
    lab.take()

    def lose_the_lease(*_: object) -> None:
        lab.clock.sleep(50)
        lab.ok("lease", action="renew")
        lab.clock.sleep(61)
        lab.take(run="run-2", token=2)

    monkeypatch.setattr(files, "sync_tree", lose_the_lease)
    assert lab.refused("stage", release=R1) == (6, "stale_token")
    assert list(lab.releases.iterdir()) == []


def test_two_stages_at_once(lab: Lab) -> None:
    lab.upload()
    lab.take()
    with files.locked(lab.host, lab.host.state("jukebox") / "stage.lock"):
        assert lab.refused("stage", release=R1) == (1, "busy")
