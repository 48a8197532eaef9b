"""Two runs on one environment are kept apart, and a dead one blocks nobody."""

from __future__ import annotations

import subprocess
import sys
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


def test_the_second_run_hears_who_holds_it_and_a_dead_holder_blocks_nobody(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout and other.stdout.readline() == b"held\n"
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
