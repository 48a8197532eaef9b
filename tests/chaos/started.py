"""What an operator's `fab` started and has not ended: on the lab's hosts, and on this machine.

The lab's hosts are containers, so that their processes are this machine's, too: nothing has to log in to see
them, and nothing that looks is among them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backline.lab.machine import podman
from backline.tasks.steps import ROOT, environment
from tests.live import BIN, Fleet
from tests.terminal import Terminal

QUIET = 30.0
"""Seconds until nothing is left on the hosts. What waits for jobs, or for dpkg, has a time of its own."""
OVER_SSH = ("/ssh.service", "/user.slice/")
"""Where sshd's children stay in the tree of control groups, even if their parents have died."""
NOBODY_S = ("systemd --user", "(sd-pam)")


@dataclass(frozen=True)
class Process:
    """One on a host, by its number on this machine."""

    pid: int
    host: str
    words: str

    @property
    def connection(self) -> bool:
        """Whether it is sshd, and not what was asked of it."""
        return self.words.startswith("sshd")


def at(fleet: Fleet, host: str, command: str) -> str:
    """What a command says that root runs there, without SSH: it is none of those that are looked for."""
    return podman("exec", fleet.container(host), "sh", "-c", f"{command.strip()} || true")


def switched_on(fleet: Fleet, host: str) -> str:
    """When it was last switched on, as a text that sorts."""
    how = ("inspect", "--format", "{{.State.StartedAt}}")
    return podman(*how, fleet.container(host)).strip()


def names(fleet: Fleet) -> list[str]:
    return [host.name for host in fleet.topology]


def containers(fleet: Fleet) -> dict[str, str]:
    """The hosts by the IDs of their containers."""
    rows = podman("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}").splitlines()
    hosts = {fleet.container(name): name for name in names(fleet)}
    found = dict(row.split()[:2] for row in rows)
    return {key: hosts[name] for key, name in found.items() if name in hosts}


def processes(hosts: dict[str, str]) -> list[Process]:
    """Those that somebody started over SSH, on the hosts of `containers`."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            group = (place / "cgroup").read_text()
            if not any(part in f"{group}/" for part in OVER_SSH):
                continue
            host = next((name for key, name in hosts.items() if key in group), "")
            words = (place / "cmdline").read_text().replace("\0", " ").strip()
            if host and words and "sshd -D" not in words and not words.endswith(NOBODY_S):
                found.append(Process(int(place.name), host, words))
    return found


def mine(fleet: Fleet) -> list[str]:
    """What somebody started over SSH, on all hosts."""
    return [f"{found.host}: {found.words}" for found in processes(containers(fleet))]


def here(fleet: Fleet) -> list[str]:
    """The playbooks that are being carried out on this machine for this fleet."""
    said = subprocess.run(["ps", "-axwwo", "args="], capture_output=True, text=True, check=True)
    lines = [line for line in said.stdout.splitlines() if "ansible-playbook" in line]
    return [line for line in lines if f"inventory/{fleet.env}" in line]


def nothing_left(fleet: Fleet, seconds: float = QUIET) -> None:
    end = time.monotonic() + seconds
    while left := [*mine(fleet), *here(fleet)]:
        assert time.monotonic() < end, f"{seconds:.0f} s after its operator:\n" + "\n".join(left)
        time.sleep(0.5)


def typed(fleet: Fleet, *words: str) -> Terminal:
    """`fab` at a terminal."""
    env = environment({"TERM": "xterm", "COLUMNS": "120"})
    return Terminal([str(BIN / "fab"), *words, "--env", fleet.env], env, ROOT)


def dies(terminal: Terminal, how: str) -> None:
    """Ends what runs at the terminal. A second SIGHUP may kill it when all is tidied up and Python ends."""
    code = terminal.die(how)
    ends = (-signal.SIGKILL,) if how == "kill" else (130, -signal.SIGHUP)
    assert code in ends, terminal.shown


def cut_off(
    fleet: Fleet, how: str, words: tuple[str, ...], middle: Callable[[], Any], within: float = 180
) -> None:
    """Types a command, waits until `middle` is so, and ends its terminal, or itself."""
    with typed(fleet, *words) as terminal:
        end = time.monotonic() + within
        while not middle():
            assert terminal.process.poll() is None, f"it was over too early:\n{terminal.shown}"
            assert time.monotonic() < end, f"it came to no middle:\n{terminal.shown}"
            time.sleep(0.05)
        dies(terminal, how)


@contextmanager
def held(
    fleet: Fleet, terminal: Terminal, doing: str = "", within: float = 60
) -> Iterator[list[Process]]:
    """What the command at the terminal runs on a host is stopped as soon as it is seen there, and goes on
    when the block is over: in between it is in the middle, however quick it is.

    `doing`: words of its command line, where it does several things one after the other.
    """
    hosts, end = containers(fleet), time.monotonic() + within
    before = {process.pid for process in processes(hosts)}
    caught: list[Process] = []
    try:
        while not any(doing in process.words for process in caught):
            assert terminal.process.poll() is None, f"it was over unseen:\n{terminal.shown}"
            assert time.monotonic() < end, f"it ran nowhere:\n{terminal.shown}"
            found = [p for p in processes(hosts) if p.pid not in before and not p.connection]
            caught = [p for p in found if doing in p.words and _told(p, signal.SIGSTOP)]
        yield caught
        time.sleep(0.5)
    finally:
        # sudo stands still with what it runs, and does not go on with it.
        for process in (*caught, *(p for p in processes(hosts) if p.pid not in before)):
            _told(process, signal.SIGCONT)


def _told(process: Process, what: signal.Signals) -> bool:
    """Whether it was there to be told."""
    try:
        os.kill(process.pid, what)
    except ProcessLookupError:
        return False
    return True
