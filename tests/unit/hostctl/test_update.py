"""update: only a program that a trusted signer signed as hostctl ever replaces hostctl."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from backline import hostctl_build
from backline.hostctl import VERSION, files
from backline.release import signing

from .fake_host import Lab, sign

OLD = (0, 1, 9)
NEW = (0, 9, 1)


def program(version: tuple[int, ...], extra: str = "") -> bytes:
    text = ".".join(map(str, version))
    return f"import sys\nprint('hostctl {text} (protocol 2)')\n{extra}".encode()


def upload(lab: Lab, content: bytes, key: str = "release") -> Path:
    path = lab.host.incoming / "hostctl"
    path.write_bytes(content)
    signing.sign_hostctl(path, lab.keys[key])
    return path


def installed(lab: Lab) -> Path:
    return lab.path("usr/local/bin/hostctl")


@pytest.fixture(autouse=True)
def there(lab: Lab) -> None:
    """0.2.0 is installed."""
    installed(lab).parent.mkdir(parents=True)
    installed(lab).write_bytes(program((0, 2, 0)))


def call(lab: Lab, **fields: object) -> object:
    return lab.ok("update", app=..., run=..., token=..., **fields)


def test_a_newer_one_takes_its_place(lab: Lab) -> None:
    folder = lab.path("run/systemd/journal")
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(folder / "socket"))
        upload(lab, program(NEW))
        answer = lab.ok("update", app=..., run=..., token=..., actor="ann")
        said = journald.recv(65536)
    assert (answer["updated"], answer["already"], answer["version"]) == (True, False, "0.9.1")
    assert installed(lab).read_bytes() == program(NEW)
    assert stat.S_IMODE(installed(lab).stat().st_mode) == 0o755
    assert list(lab.host.incoming.iterdir()) == []
    assert b"version=0.9.1" in said and b"BACKLINE_ACTOR" in said and b"BACKLINE_SHA256" in said
    assert not lab.path("var/lib/backline/.update").exists()


def test_the_same_one_again_changes_nothing(lab: Lab) -> None:
    upload(lab, program(NEW))
    call(lab)
    before = installed(lab).stat().st_ino
    upload(lab, program(NEW))
    answer = lab.ok("update", app=..., run=..., token=...)
    assert (answer["updated"], answer["already"], len(answer["sha256"])) == (False, True, 64)
    assert installed(lab).stat().st_ino == before and list(lab.host.incoming.iterdir()) == []


def test_the_built_program_is_accepted(lab: Lab) -> None:
    upload(lab, hostctl_build.build())
    assert lab.ok("update")["version"] == VERSION


def test_a_stranger_and_a_signature_of_a_release_are_refused(lab: Lab) -> None:
    path = upload(lab, program(NEW), "stranger")
    assert lab.refused("update") == (6, "bad_signature")
    assert list(lab.host.incoming.iterdir()) == []
    path.write_bytes(program(NEW))
    sign(path, lab.keys["release"])  # as a release: another namespace
    assert lab.refused("update") == (6, "bad_signature")
    assert installed(lab).read_bytes() == program((0, 2, 0))


def test_a_signer_who_may_only_sign_releases_signs_no_program(lab: Lab) -> None:
    signers = lab.path("etc/backline/allowed_signers")
    signers.write_text(signers.read_text().replace(",backline-hostctl", ""))
    upload(lab, program(NEW))
    assert lab.refused("update") == (6, "bad_signature")


def test_an_older_one_needs_force(lab: Lab) -> None:
    upload(lab, program(OLD))
    assert lab.refused("update") == (6, "older_version")
    assert installed(lab).read_bytes() == program((0, 2, 0))
    call(lab, force=True)
    assert installed(lab).read_bytes() == program(OLD)


def test_what_does_not_run_replaces_nothing(lab: Lab) -> None:
    for content in (program(NEW, "sys.exit(3)"), b"print('hello')", b"\x7fELF"):
        upload(lab, content)
        assert lab.refused("update") == (6, "bad_program")
    assert installed(lab).read_bytes() == program((0, 2, 0))


def test_a_broken_one_is_replaced_by_anything(lab: Lab) -> None:
    installed(lab).write_bytes(b"broken")
    upload(lab, program(OLD))
    call(lab)
    installed(lab).unlink()
    upload(lab, program(OLD))
    call(lab)


def test_links_and_missing_uploads(lab: Lab) -> None:
    assert lab.refused("update") == (1, "upload_missing")
    path = upload(lab, program(NEW))
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert lab.refused("update") == (6, "bad_upload")
    os.mkfifo(lab.host.incoming / "hostctl")
    assert lab.refused("update") == (6, "bad_upload")


def test_two_updates_at_once(lab: Lab) -> None:
    upload(lab, program(NEW))
    with files.locked(lab.host, lab.path("var/lib/backline/update.lock")):
        assert lab.refused("update") == (1, "busy")
