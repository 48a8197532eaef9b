"""`fab doctor`: what it looks at, what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from calling import call
from fake_fleet import FakeFleet
from looked_at import environment, made

import backline.tasks.operator
from backline import inventory
from backline.errors import BacklineError
from backline.hostctl import VERSION
from backline.tasks import doctor, provision


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    """A machine and a fleet on which nothing is wrong but that there are no keys."""
    found = made()
    known = environment(tmp_path)
    for host in found.hosts.values():
        host.facts |= {"hostctl": VERSION}
    lines = [f"{host.address} ssh-ed25519 AAAA\n" for host in known.hosts.values()]
    known.known_hosts.write_text("".join(lines))
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("BACKLINE_ENV", raising=False)
    monkeypatch.setattr(inventory, "load", lambda name: known)
    monkeypatch.setattr(inventory, "environments", lambda: ["stage"])
    monkeypatch.setattr(doctor, "reach", lambda environment: found)
    monkeypatch.setattr(provision, "check_variables", lambda fleet: None)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: found.clock)
    return found


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        found.setdefault(row.get("check", row["event"]), []).append(row)
    return found


def test_a_healthy_fleet_has_warnings_at_most(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(doctor.doctor, json=True) == 0
    found = checks(capsys)
    assert found["doctor"][0]["bad"] == 0
    expected = {"python", "inventory", "known_hosts", "variables", "hosts", "clocks", "hostctl"}
    assert all(row["level"] == "ok" for name in expected for row in found[name])
    assert all(row["schema_version"] == 1 for rows in found.values() for row in rows)


def test_each_check_is_a_line_and_each_trouble_has_a_hint(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fleet.dead.add("stream2")
    fleet.hosts["db1"].facts |= {"time": fleet.clock.now + 90}
    (tmp_path / "known_hosts").write_text("")
    assert call(doctor.doctor) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("bad", "warn")):
            assert lines[number + 1].strip().startswith("→"), line
    text = "\n".join(lines)
    assert "stream2: no answer" in text and "db1 +90 s" in text
    assert "fab hosts.trust --env stage --on 'db1,stream[1-2],worker1'" in text
    assert "3 of" in err


def test_without_an_environment_it_looks_at_the_machine(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(doctor.doctor, env="", json=True) == 0
    assert set(checks(capsys)) == {"python", "programs", "disk", "BACKLINE_ENV", "doctor"}
    assert not fleet.calls


def test_a_variable_that_names_no_environment_is_bad(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_ENV", "satge")
    assert call(doctor.doctor, env="", json=True) == 1
    found = checks(capsys)
    assert found["BACKLINE_ENV"][0]["level"] == "bad" and not fleet.calls


def test_an_inventory_that_cannot_be_read_is_a_line(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> Any:
        raise BacklineError("Ansible cannot read it", state="line 3", hint="look there")

    monkeypatch.setattr(inventory, "load", fails)
    assert call(doctor.doctor, json=True) == 1
    (row,) = checks(capsys)["inventory"]
    assert row["level"] == "bad" and "line 3" in row["says"] and row["hint"] == "look there"


def test_variables_that_the_roles_refuse_are_a_line(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fleet: Any) -> None:
        raise BacklineError("edge: edge_port is no number", hint="correct it")

    monkeypatch.setattr(provision, "check_variables", fails)
    assert call(doctor.doctor, json=True, local=True) == 1
    (row,) = checks(capsys)["variables"]
    assert row["level"] == "bad" and "edge_port" in row["says"]
    assert not fleet.calls


def test_private_keys_are_tried(tmp_path: Path) -> None:
    for name, phrase in (("plain", ""), ("locked", "secret words")):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", str(tmp_path / name)]
        subprocess.run(argv, check=True)
    assert doctor._key_file(tmp_path / "plain").kind == "plain"
    assert doctor._key_file(tmp_path / "locked").kind == "passphrase"
    assert doctor._key_file(tmp_path / "nothing").mode is None
    (tmp_path / "text").write_text("hello\n")
    assert doctor._key_file(tmp_path / "text").kind not in ("plain", "passphrase")


def test_the_agent_is_asked_how_many_keys_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert doctor._agent() is None
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    assert doctor._agent() is None


def test_a_look_makes_no_signing_key(fleet: FakeFleet, tmp_path: Path) -> None:
    call(doctor.doctor)
    assert not (tmp_path / ".lab").exists()
