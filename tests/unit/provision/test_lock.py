"""Two runs on one environment are kept apart, and a dead one blocks nobody."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backline.errors import BacklineError
from backline.provision import lock

HOLD = """
import sys
from pathlib import Path
from backline.provision import lock
with lock.held(Path(sys.argv[1]), "stage", "ann", "noon"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(program: str, folder: Path) -> subprocess.Popen[bytes]:
    """Another process, which has the lock."""
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout and other.stdout.readline() == b"held\n"
    return other


def test_the_second_run_hears_who_holds_it_and_a_dead_holder_blocks_nobody(tmp_path: Path) -> None:
    other = holder(HOLD, tmp_path)
    with (
        pytest.raises(BacklineError, match=f"by ann, process {other.pid}, since noon") as caught,
        lock.held(tmp_path, "stage", "bob", "later"),
    ):
        pass
    assert caught.value.exit_code == 5
    with lock.held(tmp_path, "production", "bob", "later"):
        pass
    other.kill()
    other.wait()
    with lock.held(tmp_path, "stage", "bob", "later"):
        assert "bob" in (tmp_path / "stage.lock").read_text()


BEGUN = lock.Begun("20261126T030500Z-ann-1234", "ann@laptop", "03:05", "fab patch --on stream1")
CUT_OFF = "`fab patch --on stream1` by ann@laptop, begun 03:05, was cut off"


def test_a_run_that_is_cut_off_is_told_of_until_the_next_one_ends(tmp_path: Path) -> None:
    program = HOLD.replace('"noon"):', f'"noon") as held:\n    held.begin(lock.{BEGUN!r})')
    other = holder(program, tmp_path)
    assert lock.killed(tmp_path, "stage") is None, "it is at work"
    other.kill()
    other.wait()
    assert str(lock.killed(tmp_path, "stage")) == CUT_OFF
    assert lock.killed(tmp_path, "production") is None
    with lock.held(tmp_path, "stage", "bob", "later") as held:
        assert held.before == BEGUN
    assert lock.killed(tmp_path, "stage") == BEGUN, "a look changes nothing"
    with lock.held(tmp_path, "stage", "bob", "later") as held:
        held.begin(replace(BEGUN, actor="bob"))
        assert held.before == BEGUN
        held.end()
    assert lock.killed(tmp_path, "stage") is None


def test_what_is_not_understood_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "stage.begun").write_text('{"run": 1')
    assert lock.killed(tmp_path, "stage") is None
