"""hostctl as sshd starts it: what only looks ends with whoever asked, and takes its children along."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
