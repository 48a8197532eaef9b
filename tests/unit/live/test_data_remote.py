"""What a program on a host told is on disk, whatever becomes of it; and it ends when it is told to."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from backline.errors import BacklineError
from tests.data import remote
from tests.data.remote import Remote, wait_until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SOONEST_S", 0.01)
    monkeypatch.setattr(remote, "LATEST_S", 0.02)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_program_ends_when_its_standard_input_does(tmp_path: Path) -> None:
    program = Remote(
        lambda: shell('echo "{\\"n\\": 1}"; cat; echo "{\\"n\\": 2}"'), tmp_path / "log"
    )
    program.start()
    wait_until("it began", 5, program.entries)
    began = time.monotonic()
    program.stop(5)
    assert time.monotonic() - began < 4
    assert [entry["n"] for entry in program.entries()] == [1, 2]


def test_one_that_was_cut_off_is_started_again_on_a_line_of_its_own(tmp_path: Path) -> None:
    program = Remote(lambda: shell('printf \'{"n": 1}\\n{"n":\''), tmp_path / "log", again=True)
    program.start()
    wait_until("it came back", 5, lambda: len(program.entries()) >= 3)
    program.stop(5)
    assert {entry["n"] for entry in program.entries()} == {1}


def test_one_that_is_to_run_once_is_not_started_again(tmp_path: Path) -> None:
    program = Remote(lambda: shell('echo "{\\"n\\": 1}"'), tmp_path / "log")
    program.start()
    wait_until("it ended", 5, program.entries)
    time.sleep(0.2)
    program.stop(5)
    assert len(program.entries()) == 1


def test_a_host_that_is_away_is_tried_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def prepare() -> list[str]:
        tries.append(1)
        if len(tries) < 3:
            raise BacklineError("container is not running")
        return shell("echo '{}'; cat")

    program = Remote(prepare, tmp_path / "log", again=True)
    program.start()
    wait_until("it came back", 5, program.entries)
    program.stop(5)
    assert len(tries) == 3


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    program = Remote(
        lambda: shell(f"echo {json.dumps(json.dumps({}))}; exec sleep 60"), tmp_path / "l"
    )
    program.start()
    wait_until("it began", 5, program.entries)
    began = time.monotonic()
    program.stop(0.3)
    assert time.monotonic() - began < 5
