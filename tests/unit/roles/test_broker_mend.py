"""When a broker that takes no clients is started anew, and when it is left alone."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "broker" / "files" / "broker_mend.py"
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


@dataclass
class Node:
    """The host that the program is on. `calls`: what it had systemd do."""

    program: ModuleType
    now: float = 1000.0
    state: str = "active"
    listens: bool = False
    others: set[str] = field(default_factory=lambda: {*ADDRESSES[1:]})
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def says(self, *words: str) -> str:
        if words[0] == "ss":
            return "LISTEN" if self.listens else ""
        if words[1] == "show":
            return self.state
        self.calls.append(words)
        return ""

    def look(self, after: float = 0.0) -> bool:
        """One look, so many seconds later; whether it was restarted by it."""
        self.now += after
        self.calls.clear()
        self.program.main(ADDRESSES[0], "5671", "25672", "120", *ADDRESSES)
        return self.calls == [("systemctl", "--no-block", "restart", "rabbitmq-server.service")]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    found = importlib.util.spec_from_file_location("broker_mend", PROGRAM)
    assert found and found.loader
    program = importlib.util.module_from_spec(found)
    found.loader.exec_module(program)
    made = Node(program)
    monkeypatch.setattr(program, "SINCE", tmp_path / "since")
    monkeypatch.setattr(program, "HANDS_OFF", tmp_path / "upkeep")
    monkeypatch.setattr(program, "says", made.says)
    monkeypatch.setattr(program, "reached", lambda address, port: address in made.others)
    monkeypatch.setattr(program.time, "clock_gettime", lambda clock: made.now)
    return made


def test_one_that_stays_stopped_is_started_anew_once(node: Node) -> None:
    assert not node.look()
    assert not node.look(119)
    assert node.look(2)
    assert not node.look(30), "it starts"


def test_one_that_came_back_begins_to_count_anew(node: Node) -> None:
    node.look()
    node.listens = True
    node.look(100)
    node.listens = False
    assert not node.look(100) and not node.look(119) and node.look(2)


@pytest.mark.parametrize("others", [set(), {"10.9.9.9"}])
def test_the_smaller_side_stays_stopped(node: Node, others: set[str]) -> None:
    node.look()
    node.others = others
    assert not node.look(600)
    node.others = {ADDRESSES[2]}
    assert node.look(30), "two of three see each other again"


@pytest.mark.parametrize("state", ["activating", "inactive", "failed", "deactivating"])
def test_one_that_systemd_starts_or_somebody_stopped_is_left_alone(node: Node, state: str) -> None:
    node.state = state
    assert not node.look() and not node.look(600)


def test_nobody_is_disturbed_at_work(node: Node) -> None:
    node.program.HANDS_OFF.write_text("{}")
    assert not node.look() and not node.look(600)
