"""A terminal that goes away under a task: told twice, by the kernel and by the shell, and deaf afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from tests.terminal import Terminal

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys, time
from pathlib import Path
from invoke.context import Context
from backline.tasks.operator import operation
from backline.tasks.pipe import end_quietly

end_quietly()
folder = Path(sys.argv[1])

@operation()
def slow(c):
    try:
        (folder / "begun").touch()
        time.sleep(60)
    finally:
        print("giving back")
        time.sleep(1)
        print("given back")
        (folder / "tidied").touch()

slow(Context())
"""


def test_the_second_hang_up_does_not_break_off_the_tidying(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with Terminal(words, os.environ, ROOT) as terminal:
        end = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < end, terminal.shown
            time.sleep(0.02)
        terminal.hang_up()
        time.sleep(0.4)
        terminal.process.send_signal(signal.SIGHUP)
        code = terminal.process.wait(20)
    assert (tmp_path / "tidied").exists()
    assert code == 130, "what nobody can read is no failure of its own"
