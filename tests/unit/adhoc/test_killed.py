"""A playbook under way on a real sshd, and an operator whose terminal goes away, or who is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from loop import Place, ended, wait_for

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
        end_task(folder)


def write(place: Place, folder: Path, seconds: int = 60) -> None:
    playbook = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [
                {"ansible.builtin.shell": f"echo $$ >{folder}/first; exec sleep {seconds}"},
                {"ansible.builtin.file": {"path": f"{folder}/second", "state": "touch"}},
            ],
        }
    ]
    (place.root / "playbooks").mkdir(exist_ok=True)
    (place.root / "playbooks" / "slow.yml").write_text(json.dumps(playbook))


def end_task(folder: Path) -> None:
    """What a task has begun comes to its own end on the host; here nobody waits for it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((folder / "first").read_text()), signal.SIGKILL)


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


def test_what_was_killed_is_told_of_and_the_same_command_goes_on(place: Place, run: Path) -> None:
    words = ("provision", "--playbook", "slow", "--on", "h1")
    with started(place, run) as terminal:
        terminal.die("kill")
    said = f"`fab {' '.join(words)}` by "
    assert said in told(place, "doctor", "--local")
    assert said in told(place, "status", "--on", "h1")
    wait_for(lambda: not ours(place), 15)
    last = [json.loads(line) for line in commands(place)][-1]
    assert last["command"] == f"fab {' '.join(words)}" and last["hosts"] == ["h1"]
    assert last["ended"] is None and last["exit_code"] is None
    end_task(run)
    write(place, run, seconds=0)
    done = place.fab(*words)
    assert done.returncode == 0 and said in done.stderr and (run / "second").exists()
    assert said not in told(place, "doctor", "--local")
    last = [json.loads(line) for line in commands(place)][-1]
    assert (last["exit_code"], last["failed"]) == (0, [])


def test_one_that_is_interrupted_is_told_of_as_well(place: Place, run: Path) -> None:
    with started(place, run) as terminal:
        terminal.die("hangup")
    assert "was cut off" in told(place, "doctor", "--local")
    assert json.loads(commands(place)[-1])["exit_code"] == 130


def commands(place: Place) -> list[str]:
    return place.fab("audit.show", "--commands", "--json").stdout.splitlines()


def told(place: Place, *words: str) -> str:
    """What a person reads, on one line."""
    done = place.fab(*words)
    return " ".join((done.stdout + done.stderr).split())


LOOKS = """
import sys
from backline.hostctl import cli, listener
from backline.hostctl.host import run_command

cli._catch_signals()
sys.stdin.read()
with listener.listened():
    run_command(["sh", "-c", "echo $$ >{marker}; exec sleep 60"], timeout=60)
"""


@pytest.mark.parametrize("how", WAYS)
def test_a_hostctl_that_looks_ends_with_who_asked(place: Place, tmp_path: Path, how: str) -> None:
    marker = tmp_path / "pid"
    (tmp_path / "looks.py").write_text(LOOKS.replace("{marker}", str(marker)))
    sudo = place.programs / "sudo"
    sudo.write_text(
        f"#!/bin/sh\nPYTHONPATH={places.CHECKOUT} exec {sys.executable} {tmp_path}/looks.py\n"
    )
    sudo.chmod(0o755)
    words = [*place.argv, "doctor", "--on", "h1"]
    try:
        with Terminal(words, {**place.environment, "TERM": "xterm"}, places.CHECKOUT) as terminal:
            wait_for(lambda: marker.exists() and marker.read_text(), 60)
            terminal.die(how)
        assert ended(marker), terminal.shown
    finally:
        sudo.unlink()
