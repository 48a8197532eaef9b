"""hostctl as sshd starts it: what only looks ends with whoever asked, and takes its children along."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backline.hostctl.host import run_command

ROOT = Path(__file__).parents[3]
SECONDS = 5.0
PROGRAM = """
import sys
from backline.hostctl import cli, listener
from backline.hostctl.host import run_command
cli._catch_signals()
try:
    with listener.listened():
        run_command(["sh", "-c", "echo $$ > " + sys.argv[1] + "; exec sleep 60"], timeout=60)
except cli.Interrupted as signal:
    sys.exit(f"interrupted by {signal}")
"""


class Asked:
    """A hostctl that works on something long, with one socket as stdin and stdout, as sshd has it."""

    def __init__(self, folder: Path, output: int | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.socket, self.marker = ours, folder / "pid"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.marker)],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs if output is None else output,
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        end = time.monotonic() + 20
        while not (self.marker.exists() and self.marker.read_text().strip()):
            assert time.monotonic() < end and self.process.poll() is None
            time.sleep(0.02)

    def ended(self) -> str:
        """What it said when it ended; nothing of it is left."""
        _, said = self.process.communicate(timeout=SECONDS)
        with pytest.raises(ProcessLookupError):
            os.kill(int(self.marker.read_text()), 0)
        return said


# As `su` does for rabbitmqctl: what it starts has a session of its own, and keeps the output open.
APART = "setsid sh -c 'echo $$ > {marker}; exec sleep 60' & {then}"


@pytest.mark.parametrize("then", ["wait", "sleep 60"])
def test_a_command_that_comes_to_no_end_takes_all_that_it_started_along(
    tmp_path: Path, then: str
) -> None:
    marker = tmp_path / "pid"
    began = time.monotonic()
    ended = run_command(["sh", "-c", APART.format(marker=marker, then=then)], timeout=1)
    assert ended.status is None and time.monotonic() - began < SECONDS
    while Path(f"/proc/{int(marker.read_text())}").exists():  # until somebody has noticed
        assert time.monotonic() - began < SECONDS
        time.sleep(0.02)


def test_a_command_that_leaves_a_daemon_with_its_output_is_not_waited_for(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"echo said; {APART.format(marker=marker, then='exit')}"
    began = time.monotonic()
    try:
        ended = run_command(["sh", "-c", script], timeout=1)
        assert (ended.status, ended.out) == (None, "said\n")
        assert time.monotonic() - began < SECONDS + 2
    finally:
        os.kill(int(marker.read_text()), 9)


def test_who_asked_is_gone(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.socket.close()
    assert "interrupted by SIGHUP" in asked.ended()


def test_nobody_reads_from_the_pipe_any_more(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    asked = Asked(tmp_path, writer)
    os.close(writer)
    os.close(reader)
    assert "interrupted by SIGHUP" in asked.ended()


def test_whoever_has_said_all_and_waits_for_the_answer_is_still_there(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(subprocess.TimeoutExpired):
        asked.process.wait(2.0)
    asked.socket.close()
    asked.ended()
