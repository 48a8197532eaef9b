"""A playbook under way on a real sshd, and an operator whose terminal goes away, or who is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loop import Place, wait_for

from backline import places
from tests.terminal import Terminal

WAYS = ["hangup", "hangup twice", "kill"]


@pytest.fixture
def run(place: Place) -> Iterator[Path]:
    """A folder for a playbook of two tasks: the first takes a minute, the second must not be begun.

    Its name is short, for a socket's name has at most 108 bytes.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(place, folder)
        yield folder
        if (folder / "first").exists():  # the task itself comes to its end on the host
            os.kill(int((folder / "first").read_text()), signal.SIGKILL)


def write(place: Place, folder: Path) -> None:
    playbook = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {"ansible.builtin.shell": f"echo $$ >{folder}/first; exec sleep 60"},
                {"ansible.builtin.file": {"path": f"{folder}/second", "state": "touch"}},
            ],
        }
    ]
    (place.root / "playbooks").mkdir(exist_ok=True)
    (place.root / "playbooks" / "slow.yml").write_text(json.dumps(playbook))


def started(place: Place, folder: Path, *more: str) -> Terminal:
    """`fab provision` with its first task under way; what it leaves here is in `folder`/tmp."""
    (folder / "tmp").mkdir(exist_ok=True)
    words = ("provision", "--playbook", "slow", "--on", "h1", *more)
    env = {**place.environment, "TMPDIR": str(folder / "tmp"), "TERM": "xterm"}
    terminal = Terminal([*place.argv, *words], env, places.CHECKOUT)
    try:
        wait_for(lambda: (folder / "first").exists() and (folder / "first").read_text(), 60)
    except AssertionError:
        terminal.__exit__()
        raise AssertionError(terminal.shown) from None
    return terminal


def ours(place: Place) -> list[str]:
    """The processes on this machine that carry out a playbook of this place."""
    said = subprocess.run(
        ["ps", "-axwwo", "pid=,args="], capture_output=True, text=True, check=True
    )
    words = (str(place.root / "playbooks"), "backline-run-")
    return [line for line in said.stdout.splitlines() if any(word in line for word in words)]


@pytest.mark.parametrize("stock", [False, True], ids=["mitogen", "stock"])
@pytest.mark.parametrize("how", WAYS)
def test_no_playbook_goes_on_unattended(place: Place, run: Path, how: str, stock: bool) -> None:
    with started(place, run, *["--stock"] * stock) as terminal:
        assert ours(place)
        code = terminal.die(how)
    assert code == (-signal.SIGKILL if how == "kill" else 130), terminal.shown
    wait_for(lambda: not ours(place), 15)
    assert not list((run / "tmp").glob("backline-run-*")), "secrets may be in there"
    time.sleep(0.5)
    assert not (run / "second").exists()
