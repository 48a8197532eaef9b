"""A fleet of its own for the tests: lab `lab-test`, beside the one a person may have up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backline.lab import files
from backline.lab.listener import Listener
from backline.tasks.steps import ROOT, environment, mitogen

ENV = "lab-test"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Answer:
    """How a command ended: exit code, what it printed on stdout and on stderr."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> Any:
        """The last line of stdout as JSON."""
        return json.loads(self.out.strip().splitlines()[-1])

    @property
    def lines(self) -> list[Any]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.out.strip().splitlines()]


def run(*words: str, expect: int | None = 0, fast: bool = False, timeout: float = 1200) -> Answer:
    """Runs a command of the virtual environment; `fast` lets Ansible use mitogen."""
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=ROOT,
        env=environment({"ANSIBLE_FORCE_COLOR": "0", **(mitogen() if fast else {})}),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )
    answer = Answer(done.returncode, done.stdout, done.stderr)
    if expect is not None:
        assert answer.code == expect, f"{words}\n{answer.out[-4000:]}\n{answer.err[-4000:]}"
    return answer


@dataclass(frozen=True)
class Fleet:
    """The fleet under test as the tests see it."""

    base: str
    ca: Path
    folder: Path

    def listener(self) -> Listener:
        """A listener who has just signed up."""
        listener = Listener(self.base, self.ca)
        listener.sign_up()
        return listener

    def on(self, host: str, command: str, expect: int | None = 0) -> Answer:
        """Runs a shell command on one host as its administrator."""
        return run("inv", "lab.ssh", host, "--env", ENV, "--command", command, expect=expect)


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Hosts made from nothing and removed at the end; with BACKLINE_KEEP_LAB those that are up."""
    if "BACKLINE_KEEP_LAB" not in os.environ:
        run("inv", "lab.down", "--env", ENV)
    run("inv", "lab.up", "--env", ENV)
    state = files.require(ENV)
    edge = next(host for host in state.topology().hosts if "https" in host.ports)
    yield Fleet(
        f"https://localhost:{edge.ports['https'][0]}",
        files.INVENTORY / ENV / "edge-ca.pem",
        files.folder(ENV),
    )
    if "BACKLINE_KEEP_LAB" not in os.environ:
        run("inv", "lab.down", "--env", ENV)


def build(version: str) -> str:
    """Builds a release of the sample application; returns its ID."""
    answer = run("inv", "release.build", "examples/jukebox", "--version", version, "--json")
    return str(answer.last["id"])
