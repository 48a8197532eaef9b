"""Nothing that we start on a host outlives us."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from backline.transport import local
from backline.transport.guard import guarded

STUBBORN = "trap '' TERM; "


def start(command: str, deadline: float = 30, fed: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", guarded(command, deadline, fed=fed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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


def test_what_ignores_the_deadline_is_killed_soon_after(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    began = time.monotonic()
    process = start(f"{STUBBORN} echo $$ >{marker}; while :; do sleep 0.2; done", deadline=1)
    assert process.wait(10) == 137 and time.monotonic() - began < 4
    assert not alive(marker)


def test_without_a_deadline_it_runs_on() -> None:
    assert start("sleep 1.2; exit 4", deadline=0).wait(10) == 4


def test_what_it_left_in_the_background_ends_with_it(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    process = start(f"sleep 60 >/dev/null 2>&1 & echo $! >{marker}")
    assert process.wait(5) == 0
    wait_for(lambda: not alive(marker))


def test_a_daemon_with_a_session_of_its_own_stays(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    inner = f"setsid sh -c 'echo $$ >{marker}.new; mv {marker}.new {marker}; exec sleep 5'"
    process = start(f"{inner} >/dev/null 2>&1 </dev/null & while ! [ -e {marker} ]; do :; done")
    assert process.wait(10) == 0
    assert alive(marker)
    subprocess.run(["kill", marker.read_text().strip()], check=True)


def test_it_reads_what_it_is_fed_and_no_more() -> None:
    data = bytes(range(256)) * 4000
    process = start("sha256sum; exit 6", fed=len(data))
    assert process.stdin and process.stdout
    process.stdin.write(data)
    process.stdin.flush()  # and stays open: that is how it knows that we are there
    assert process.stdout.read().split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert process.wait(5) == 6


def test_half_an_input_starts_nothing(tmp_path: Path) -> None:
    process = start(f"touch {tmp_path}/begun", fed=10)
    out, err = process.communicate(b"half", timeout=5)
    assert process.returncode == 125 and b"did not arrive whole" in err
    assert not (tmp_path / "begun").exists()


def test_as_root_the_guard_is_root_too() -> None:
    """Only root can end what root runs."""
    line = guarded("id", 5, sudo=True)
    assert shlex.split(line)[:6] == ["exec", "sudo", "-n", "--", "sh", "-c"]
    assert "sudo" not in shlex.split(line)[6]


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
