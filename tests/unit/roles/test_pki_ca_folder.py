"""The CA's folder: what is refused, and that a change which is cut off anywhere can be finished."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.authorities import PASSPHRASE, Authority

PROGRAM = Path(__file__).parents[3] / "roles/pki/files/ca_folder.py"
FIRST, SECOND = Authority("first", begins=-100), Authority("second")


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, authority: Authority, passphrase: bytes = PASSPHRASE) -> None:
        (self.path / f"{name}.pem").write_text(authority.pem)
        if name != "previous":
            (self.path / f"{name}.key").write_bytes(authority.private(passphrase))

    def run(self, action: str, passphrase: bytes = PASSPHRASE) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, PROGRAM, action, self.path],
            input=passphrase + b"\n",
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def look(self, passphrase: bytes = PASSPHRASE) -> dict[str, Any]:
        return self.run("look", passphrase)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.path.iterdir())}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_an_empty_folder_and_none_at_all_have_no_ca_and_no_fault(folder: Folder) -> None:
    for path in (folder.path, folder.path / "none"):
        found = Folder(path).look()
        assert (found["there"], found["fault"], found["key_fault"]) == (False, "", "")
        assert found["bundle"] == ""


def test_a_whole_ca_is_good(folder: Folder) -> None:
    folder.put("ca", FIRST)
    found = folder.look()
    assert found["there"] and not any(found[key] for key in ("fault", "key_fault", "warning"))
    assert found["ca"]["subject"] == "CN=first" and found["ca"]["days"] in (3649, 3650)
    assert found["bundle"] == FIRST.pem


def test_a_ca_whose_key_is_missing_is_not_replaced(folder: Folder) -> None:
    folder.put("ca", FIRST)
    (folder.path / "ca.key").unlink()
    found = folder.look()
    assert found["there"] and "no ca.key" in found["key_fault"]
    assert "pki_ca_key_lost" in found["key_fault"], "it does not say what to do"
    assert found["bundle"] == FIRST.pem


def test_a_wrong_passphrase_is_told_from_a_wrong_key(folder: Folder) -> None:
    folder.put("ca", FIRST)
    assert "does not open with pki_ca_passphrase" in folder.look(b"wrong")["key_fault"]
    (folder.path / "ca.key").write_bytes(SECOND.private())
    assert "is not the key of ca.pem" in folder.look()["key_fault"]


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_key_that_is_none(folder: Folder, content: bytes) -> None:
    folder.put("ca", FIRST)
    (folder.path / "ca.key").write_bytes(content)
    assert "no private key can be read" in folder.look()["key_fault"]


def test_a_key_in_clear_is_refused(folder: Folder) -> None:
    folder.put("ca", FIRST, passphrase=b"")
    assert "is not encrypted" in folder.look()["key_fault"]


def test_a_torn_certificate_and_a_folder_without_ca_pem_are_faults(folder: Folder) -> None:
    folder.put("ca", FIRST)
    folder.put("previous", SECOND)
    (folder.path / "ca.pem").write_text(FIRST.pem[:100])
    assert "no certificate can be read" in folder.look()["fault"]
    (folder.path / "ca.pem").unlink()
    assert "no ca.pem" in folder.look()["fault"]


def test_a_run_that_made_only_the_key_goes_on_with_it(folder: Folder) -> None:
    (folder.path / "ca.key").write_bytes(FIRST.private())
    found = folder.look()
    assert (found["there"], found["key_fault"]) == (False, "")
    assert "does not open" in folder.look(b"wrong")["key_fault"]


def test_a_ca_that_ends_is_warned_of_and_one_that_has_ended_is_refused(folder: Folder) -> None:
    folder.put("ca", Authority("soon", ends=364))
    found = folder.look()
    assert "ends in 363 days" in found["warning"] and not found["key_fault"]
    folder.put("ca", Authority("over", begins=-10, ends=-1))
    found = folder.look()
    assert "has expired" in found["key_fault"] and found["expired"] and found["dark"]
    assert "rotate_certificates" in found["key_fault"]


def test_hosts_bundles_do_not_change_when_a_ca_gets_another_name(folder: Folder) -> None:
    folder.put("ca", FIRST)
    folder.put("next", SECOND)
    before = folder.look()
    assert before["bundle"] == FIRST.pem + SECOND.pem
    assert folder.run("promote") == {"changed": True}
    after = folder.look()
    assert after["bundle"] == before["bundle"]
    assert after["bundle_without_previous"] == SECOND.pem
    assert (after["key_fault"], after["next"], after["previous"]) == ("", False, True)
    assert sorted(folder.files()) == ["ca.key", "ca.pem", "previous.pem"]
    assert folder.run("promote") == {"changed": False}


def test_the_old_ca_is_forgotten_once(folder: Folder) -> None:
    folder.put("ca", SECOND)
    folder.put("previous", FIRST)
    assert folder.run("retire") == {"changed": True}
    assert folder.run("retire") == {"changed": False}
    assert folder.look()["bundle"] == SECOND.pem


def test_nobody_takes_a_next_ca_whose_key_does_not_open(folder: Folder) -> None:
    folder.put("ca", FIRST)
    folder.put("next", SECOND)
    before = folder.files()
    done = subprocess.run(
        [sys.executable, PROGRAM, "promote", folder.path], input=b"wrong", capture_output=True
    )
    assert done.returncode == 1 and b"does not open" in done.stderr
    assert folder.files() == before


def test_a_lost_key_does_not_keep_the_next_ca_from_taking_over(folder: Folder) -> None:
    folder.put("ca", FIRST)
    (folder.path / "ca.key").unlink()
    folder.put("next", SECOND)
    folder.run("promote")
    assert folder.look()["key_fault"] == ""
    assert folder.look()["ca"]["subject"] == "CN=second"


def states(folder: Folder, tmp_path: Path) -> list[dict[str, bytes]]:
    """Every state that a promotion passes through, as a kill would leave it."""
    folder.put("ca", FIRST)
    folder.put("next", SECOND)
    start = folder.files()
    traced = tmp_path / "trace.py"
    traced.write_text(
        "import json, pathlib, runpy, sys\n"
        "program, folder = sys.argv[1], pathlib.Path(sys.argv[3])\n"
        "seen = []\n"
        "def note(event, words):\n"
        "    if event in ('os.rename', 'os.replace', 'open', 'os.chmod'):\n"
        "        seen.append({p.name: p.read_bytes().hex() for p in folder.iterdir()})\n"
        "armed = [False]\n"
        "def hook(event, words):\n"
        "    if armed[0]:\n"
        "        armed[0] = False\n"
        "        note(event, words)\n"
        "        armed[0] = True\n"
        "sys.addaudithook(hook)\n"
        "sys.argv = sys.argv[1:]\n"
        "armed[0] = True\n"
        "try:\n"
        "    runpy.run_path(program, run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "armed[0] = False\n"
        "print(json.dumps(seen))\n"
    )
    done = subprocess.run(
        [sys.executable, traced, PROGRAM, "promote", folder.path],
        input=PASSPHRASE,
        capture_output=True,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    found = [{name: bytes.fromhex(text) for name, text in state.items()} for state in seen]
    unique = [start, *(state for state, _ in itertools.groupby(found))]
    return [state for number, state in enumerate(unique) if state not in unique[:number]]


def test_a_promotion_that_is_killed_anywhere_can_be_finished(tmp_path: Path) -> None:
    work, again = tmp_path / "work", tmp_path / "again"
    work.mkdir()
    again.mkdir()
    passed = states(Folder(work), tmp_path)
    wanted = Folder(work).files()
    assert len(passed) >= 4, "the trace saw too little"
    for state in passed:
        for path in again.iterdir():
            path.unlink()
        for name, data in state.items():
            (again / name).write_bytes(data)
        found = Folder(again)
        looked = found.look()
        assert looked["fault"] == ""
        assert FIRST.pem in looked["bundle"], "the CA that hosts show was trusted no more"
        assert looked["key_fault"] == "" or "rotate_certificates" in looked["key_fault"]
        found.run("finish")
        found.run("promote")
        left = {name: data for name, data in found.files().items() if not name.startswith(".")}
        assert left == wanted
