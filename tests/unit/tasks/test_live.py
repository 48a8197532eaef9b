"""The board below a run's lines: readable in 80 columns, small, and never in the run's way."""

from __future__ import annotations

import io
import os
import pty
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import pytest
from made_runs import NEW, OLD, plan
from rich.console import Console

from backline.console import Narrator
from backline.console.live import MOST, Board
from backline.rollout.events import Event

HOSTS = [f"stream{number}" for number in range(1, 51)]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    made = Board(clock)
    made.take(Event("begun", release=NEW, data={"plan": plan(HOSTS)}))
    return made


def drawn(board: Board, width: int = 80, height: int = 40, **options: Any) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, **options)
    console.print(board)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def phase(board: Board, name: str, hosts: list[str], **data: Any) -> None:
    board.take(Event("phase", data={"phase": name, "hosts": hosts, **data}))


def test_a_batch_of_a_few_shows_every_host(board: Board, clock: Clock) -> None:
    phase(board, "batch", ["stream1", "stream2", "stream3"], number=2, of=4)
    board.take(Event("begin", "stream1", "web", NEW, "check"))
    board.take(Event("switch", "stream2", "web", NEW))
    clock.now += 7
    head, first, second, third = drawn(board, color_system=None)
    assert head.startswith("  batch 2 of 4  ━") and head.endswith("1 of 3 hosts  0:07")
    assert first == "  stream1  web check…  7 s"
    assert (second, third) == ("  stream3  waits", "  stream2  done")


def test_of_many_hosts_only_those_at_work_are_shown(board: Board) -> None:
    phase(board, "batch", HOSTS, number=1, of=1)
    for host in HOSTS[5:9]:
        board.take(Event("begin", host, "web", NEW, "start"))
    board.take(Event("failed", "stream20", "web", NEW, "check: it smokes"))
    lines = drawn(board, color_system=None)
    assert [line.split()[0] for line in lines[1:6]] == [*HOSTS[5:9], "stream20"]
    assert lines[-1] == "  + 45 more"


@pytest.mark.parametrize("height", [5, 10, 24, 60])
@pytest.mark.parametrize("width", [20, 40, 80])
def test_it_never_outgrows_the_terminal(board: Board, width: int, height: int) -> None:
    hosts = [f"streaming-{number}.production.example.net" for number in range(50)]
    phase(board, "stage", hosts)
    for host in hosts:
        board.take(Event("begin", host, text="ship"))
        board.take(Event("progress", host, data={"sent": 3_000_000, "total": 14_000_000}))
    numbers = {"well": False, "requests": 9, "failed": 3, "median_ms": 4.0, "usual_median_ms": 3.0}
    board.take(Event("verdict", text="x" * 200, data=numbers))
    lines = drawn(board, width, height, color_system=None)
    assert max(map(len, lines)) < width and len(lines) <= min(MOST, max(3, height // 2))


def test_shipping_and_watching_show_how_far_they_are(board: Board, clock: Clock) -> None:
    phase(board, "stage", ["stream1"])
    board.take(Event("begin", "stream1", text="ship"))
    board.take(Event("progress", "stream1", data={"sent": 7_000_000, "total": 14_000_000}))
    assert drawn(board, color_system=None)[1].endswith("7.0 of 14.0 MB")
    board.take(Event("stage", "stream1"))
    phase(board, "soak", HOSTS, number=1, seconds=30.0)
    clock.now += 12
    (line,) = drawn(board, color_system=None)
    assert "watch after batch 1" in line and "12 of 30 s" in line
    assert "━" not in "".join("".join(words for words, _ in ws) for ws in board.lines(9, True))


def test_events_that_nobody_foresaw_do_no_harm(board: Board) -> None:
    for event in (
        Event("phase", data={"phase": "new kind"}),
        Event("begun", data={}),
        Event("verdict", data={"well": None, "requests": 0, "failed": 0}),
        Event("nonsense", "nowhere"),
    ):
        board.take(event)
        drawn(board)


class Terminal:
    """A pseudo-terminal whose other end is read, or has gone."""

    def __init__(self) -> None:
        self.far, near = pty.openpty()
        self.file = os.fdopen(near, "w", buffering=1)
        self.seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        try:
            while data := os.read(self.far, 65536):
                self.seen += data
        except OSError:
            pass

    def close(self) -> str:
        self.file.close()
        self._reader.join(5)
        return self.seen.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    return made


def tell(monkeypatch: pytest.MonkeyPatch, stderr: TextIO) -> None:
    """A small run, told there."""
    monkeypatch.setattr(sys, "stderr", stderr)
    with Narrator("run", as_json=False) as narrator:
        narrator.report(Event("begun", data={"plan": plan(["stream1"], live=OLD)}))
        narrator.report(
            Event("phase", data={"phase": "batch", "hosts": ["stream1"], "number": 1, "of": 1})
        )
        narrator.report(Event("begin", "stream1", "web", NEW, "check"))
        if narrator._live:
            narrator._live.refresh()
        narrator.report(Event("check", "stream1", "web", NEW, seconds=1.0))


def test_on_a_terminal_the_board_goes_and_the_lines_stay(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal._reader.start()
    tell(monkeypatch, terminal.file)
    seen = terminal.close()
    assert "web check…" in seen and "healthy (1.0 s)" in seen
    assert seen.rindex("\x1b[2K") > seen.rindex("web check…")  # wiped at the end


def test_a_terminal_that_went_away_does_not_end_the_run(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.close(terminal.far)
    tell(monkeypatch, terminal.file)
    with pytest.raises(OSError):
        terminal.file.write("x\n")
        terminal.file.flush()


def test_a_display_that_breaks_does_not_end_the_run(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake in the display")

    terminal._reader.start()
    monkeypatch.setattr(Board, "take", broken)
    monkeypatch.setattr(Board, "lines", broken)
    tell(monkeypatch, terminal.file)
    assert "healthy (1.0 s)" in terminal.close()


def test_without_a_terminal_there_are_lines_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = (tmp_path / "log").open("w")
    tell(monkeypatch, file)
    assert (tmp_path / "log").read_text() == (
        "  batch 1 of 1: stream1\n  stream1   web       healthy (1.0 s)\n"
    )


def test_no_minute_has_sixty_seconds(board: Board, clock: Clock) -> None:
    phase(board, "batch", HOSTS, number=1, of=1)
    clock.now += 59.7
    assert drawn(board, color_system=None)[0].endswith("1:00")
