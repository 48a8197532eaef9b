"""Runs a playbook by ansible-runner, hands over its events, and leaves no file and no process."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backline.transport import leash

GRACE_SECONDS = 10.0
LIMIT_NAMES = 200
"""So many hosts of a limit are named on the command line; more are in a file."""
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Ended:
    """How ansible-playbook ended; `said` is what it printed outside of events, such as usage errors."""

    code: int
    interrupted: bool
    said: str


def run(
    playbook: Path,
    inventory: Path,
    *,
    cwd: Path,
    options: Sequence[str] = (),
    limit: Sequence[str] | None = None,
    env: Mapping[str, str],
    take: Callable[[dict[str, Any]], object],
) -> Ended:
    """Runs `playbook`; `take` gets every event, in order, in this thread. `limit`: the names of the only
    hosts that it may touch; None: all those of the inventory.

    ansible-runner wants a folder for its files (among them the environment it started Ansible with).
    It gets one that only we can read, which is gone when the run is over, and keeps no event in it.
    A signal to end is passed on to Ansible; what has not ended after some seconds is killed. When we are
    killed ourselves, `leash` does all that.
    """
    import ansible_runner

    said: list[str] = []
    interruption = _Interruption()
    folder = Path(tempfile.mkdtemp(prefix="backline-run-"))

    def handle(event: dict[str, Any]) -> bool:
        interruption.ansible = int(event.get("pid") or 0) or interruption.ansible
        if event.get("event") == "verbose":
            said.append(str(event.get("stdout", "")))
        (folder / "artifacts" / "run" / "command").unlink(missing_ok=True)
        take(event)
        return False  # false: not to be kept in a file

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, interruption.signalled)
    try:
        words = [*limit_words(limit, folder), *options, str(playbook)]
        done = ansible_runner.interface.run(
            private_data_dir=str(folder),
            project_dir=str(cwd),
            ident="run",
            binary=sys.executable,
            inventory=str(inventory),
            cmdline=shlex.join([leash.__file__, *words]),
            envvars={
                **env,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
                "ANSIBLE_CONFIG": os.environ.get("ANSIBLE_CONFIG", str(cwd / "ansible.cfg")),
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "ssh"),
                leash.FOLDER: str(folder),
            },
            settings={
                "pexpect_timeout": 1,
                "suppress_ansible_output": True,
                "suppress_output_file": True,
            },
            quiet=True,
            fact_cache_type="memory",
            event_handler=handle,
            cancel_callback=interruption.overdue,
        )
        return Ended(int(done.rc), interruption.since is not None, _plain("\n".join(said)))
    finally:
        leash.close(folder)
        for number, handler in before.items():
            signal.signal(number, handler)


def limit_words(hosts: Sequence[str] | None, folder: Path) -> list[str]:
    """What tells Ansible that it may touch these hosts only: their names, since what a person typed is a
    pattern of ours, of which Ansible makes something else (`all:!h[1-9]` is all to it).

    Very many are written to a file in `folder`, which goes when the run is over. ValueError for a limit
    without hosts: to Ansible that is none at all.
    """
    if hosts is None:
        return []
    if not hosts:
        raise ValueError("a limit without hosts")
    if len(hosts) <= LIMIT_NAMES:
        return ["--limit", ",".join(hosts)]
    path = folder / "limit"
    with open(path, "x", opener=_private, encoding="utf-8") as file:
        file.write("\n".join(hosts))
    return ["--limit", f"@{path}"]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _plain(said: str) -> str:
    """Without the colours that Ansible paints for the terminal it believes to have."""
    return COLOUR.sub("", said).strip()


class _Interruption:
    """Ctrl-C for a child with a terminal of its own: it does not hear ours."""

    def __init__(self) -> None:
        self.ansible = 0
        self.since: float | None = None

    def signalled(self, number: int, frame: object) -> None:
        if self.since is None:
            self.since = time.monotonic()
            if self.ansible:
                with suppress(ProcessLookupError):
                    os.killpg(os.getpgid(self.ansible), signal.SIGINT)

    def overdue(self) -> bool:
        """Whether ansible-runner is to kill what is left."""
        if self.since is None:
            return False
        return not self.ansible or time.monotonic() - self.since > GRACE_SECONDS
