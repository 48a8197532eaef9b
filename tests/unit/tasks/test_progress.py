"""The line that says how far a run is: it stays one line, and steers no terminal that cannot be steered."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from backline.console import paint, progress
from backline.console.progress import Progress
from tests.terminal import Terminal

ROOT = Path(__file__).parents[3]
PLACES = ("broker", "database", "edge", "monitor", "stream", "web", "worker", "zoo")
NAMES = [f"{place}-{number}" for number in range(15) for place in PLACES]
SCRIPT = """
import time
from backline.console import progress
progress.FIRST_SECONDS = progress.REFRESH_SECONDS = progress.REPEAT_SECONDS = 0.05
with progress.Progress(NAMES):
    time.sleep(0.4)
"""


class Window(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(**environment: str) -> str:
    """What a terminal gets of a run of many hosts."""
    words = [sys.executable, "-c", SCRIPT.replace("NAMES", repr(NAMES))]
    with Terminal(words, {**os.environ, "TERM": "xterm", **environment}, ROOT) as terminal:
        assert terminal.process.wait(30) == 0
        return terminal.whole()


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_line_is_never_wider_than_the_terminal(columns: int) -> None:
    lines = [line for line in re.split(r"\r|\x1b\[K", shown(COLUMNS=str(columns))) if line.strip()]
    assert lines and all(len(line) < columns for line in lines), lines
    assert lines[0].endswith("…") and lines[0].startswith("0 of 120 hosts")


def test_a_dumb_terminal_has_lines_of_its_own() -> None:
    said = shown(TERM="dumb", COLUMNS="80")
    assert "\x1b" not in said and "  0 of 120 hosts done" in said
    assert not re.search(r"\r[^\n]", said)


def test_a_dumb_terminal_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint.wanted(Window())
    monkeypatch.setenv("TERM", "dumb")
    assert not paint.wanted(Window())


@pytest.mark.parametrize("columns", ["", "0", "many"])
def test_a_width_that_nobody_knows_is_80(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert paint.width(Window()) == 80


def test_in_a_file_names_are_cut_too() -> None:
    line = Progress(NAMES, io.StringIO())._line(None)
    assert line.endswith("…") and len(line.partition("for ")[2]) <= progress.NAMED
