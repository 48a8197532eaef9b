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
    assert not lock.cut_off(tmp_path, "stage"), "it is at work"
    other.kill()
    other.wait()
    assert [str(run) for run in lock.cut_off(tmp_path, "stage")] == [CUT_OFF]
    assert not lock.cut_off(tmp_path, "production")
    with lock.held(tmp_path, "stage", "bob", "later") as held:
        assert held.before == [BEGUN]
    assert lock.cut_off(tmp_path, "stage") == [BEGUN], "a look changes nothing"
    with lock.held(tmp_path, "stage", "bob", "later") as held:
        held.begin(bob := replace(BEGUN, actor="bob"))
        assert held.before == [BEGUN]
        held.end(bob, well=True)
    assert not lock.cut_off(tmp_path, "stage")


REBOOT = replace(BEGUN, playbook="patch", hosts=("stream1", "stream2"))
LATER = replace(REBOOT, run="20261126T040000Z-ann-5678")
ALL = ("stream1", "stream2", "worker1")


@pytest.mark.parametrize(
    ("later", "well", "goes"),
    [
        (LATER, True, True),
        (replace(LATER, hosts=ALL), True, True),
        (LATER, False, False),
        (replace(LATER, hosts=("stream2", "worker1")), True, False),
        (replace(LATER, playbook="site", hosts=ALL), True, False),
        (replace(LATER, tags="nginx"), True, False),
    ],
)
def test_the_record_of_a_killed_run_stays_until_its_work_is_done(
    tmp_path: Path, later: lock.Begun, well: bool, goes: bool
) -> None:
    """Else nobody is told any more that hosts are half way, and their leases are waited for."""
    with lock.held(tmp_path, "stage", "ann", "noon") as held:
        held.begin(REBOOT)
    with lock.held(tmp_path, "stage", "ann", "later") as held:
        held.begin(later)
        held.end(later, well=well)
    assert lock.cut_off(tmp_path, "stage") == ([] if goes else [REBOOT])


def test_each_run_that_was_cut_off_is_kept_and_the_newest_is_named_last(tmp_path: Path) -> None:
    for run in (REBOOT, LATER):
        with lock.held(tmp_path, "stage", "ann", "noon") as held:
            held.begin(run)
    assert lock.cut_off(tmp_path, "stage") == [REBOOT, LATER]
    assert lock.cut_off(tmp_path, "stage")[-1] == LATER


def test_a_run_that_lost_a_host_on_its_way_is_kept_for_that_host(tmp_path: Path) -> None:
    with lock.held(tmp_path, "stage", "ann", "noon") as held:
        held.begin(REBOOT)
        held.end(REBOOT, well=False, lost=["stream2"])
    assert lock.cut_off(tmp_path, "stage") == [replace(REBOOT, hosts=("stream2",))]


def test_what_is_not_understood_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "stage.begun").write_text('{"run": 1')
    assert not lock.cut_off(tmp_path, "stage")
