"""Nothing that we start on a host outlives us."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from backline.transport import local
from backline.transport.guard import guarded

STUBBORN = "trap '' TERM; "


def start(command: str, deadline: int = 30) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", guarded(command, deadline)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def alive(marker: Path) -> bool:
    """True while the command that writes its PID there runs."""
    pid = marker.read_text().strip()
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: object, seconds: float = 5) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


def test_the_whole_group_ends_when_the_operator_goes_away(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    process = start(f"sh -c 'echo $$ >{marker}.new; mv {marker}.new {marker}; sleep 60' & wait")
    wait_for(marker.exists)
    assert process.stdin
    process.stdin.close()
    wait_for(lambda: not alive(marker))
    process.wait(5)


def test_what_ignores_the_end_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    inner = f"{STUBBORN} echo $$ >{marker}.new; mv {marker}.new {marker}; sleep 60; sleep 60"
    process = start(f'sh -c "{inner.replace("$", chr(92) + "$")}" & wait')
    wait_for(marker.exists)
    assert process.stdin
    process.stdin.close()
    wait_for(lambda: not alive(marker), 8)


def test_the_deadline_ends_it_and_says_so() -> None:
    began = time.monotonic()
    assert start("sleep 60", deadline=1).wait(10) == 124
    assert time.monotonic() - began < 3


def test_its_exit_code_and_quotes_come_through() -> None:
    process = start("""printf '%s' "it's \\"quoted\\" \\$HOME"; exit 3""")
    assert process.stdout
    out = process.stdout.read()
    assert process.wait(5) == 3
    assert out == b'it\'s "quoted" $HOME'


def test_a_local_program_is_ended_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"sh -c 'echo $$ >{marker}; sleep 60' & wait"
    with pytest.raises(Exception, match="did not finish within 1 s"):
        local.run(["sh", "-c", script], deadline=1)
    wait_for(lambda: not alive(marker))
