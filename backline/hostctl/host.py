"""The host as the verbs see it: a root folder, commands and clocks, all replaceable in tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLAIN_ENVIRONMENT = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": "/"}


class Completed(NamedTuple):
    """How a command ended. `status` is None when it was killed at its deadline."""

    status: int | None
    out: str
    err: str


class Runner(Protocol):
    """Runs a command to its end, or kills its whole process group after `timeout` seconds."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | int | None = None,
        group: str | int | None = None,
    ) -> Completed: ...


AFTER_DEATH_S = 2.0
"""How long the output of a command that was ended may take to end."""


def run_command(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: bytes = b"",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    user: str | int | None = None,
    group: str | int | None = None,
) -> Completed:
    """The real `Runner`. A missing program is status 127, with the reason in `err`."""
    import subprocess

    become = {} if user is None else {"user": user, "group": group, "extra_groups": [group]}
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(PLAIN_ENVIRONMENT if env is None else env),
            start_new_session=True,
            **become,  # type: ignore[call-overload]
        )
    except (OSError, KeyError, ValueError) as error:
        return Completed(127, "", f"{argv[0]}: {error}")
    ended = False
    try:
        out, err = process.communicate(stdin, timeout=timeout)
        ended = True
    except subprocess.TimeoutExpired as late:
        _kill(process.pid)
        try:
            out, err = process.communicate(timeout=AFTER_DEATH_S)
        except subprocess.TimeoutExpired:  # a daemon has kept what it was given to write to
            out, err = late.output or b"", late.stderr or b""
        return Completed(None, _text(out), _text(err))
    finally:
        if not ended and process.poll() is None:  # a signal to hostctl takes its children along
            _kill(process.pid)
            process.wait()
    return Completed(process.returncode, _text(out), _text(err))


def _kill(leader: int) -> None:
    """Ends a command and all that it has started, those too that `su` has put into a session of their own."""
    import signal
    from contextlib import suppress

    family = _descendants(leader)
    os.killpg(leader, signal.SIGKILL)
    for process in family:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    """As of now: who stays when its parent ends has another parent then."""
    found = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(child) for child in listed.read_text().split()]
        except OSError:  # that thread, or all of it, has just ended
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def boottime() -> float:
    """Seconds since boot, suspend included: no change of the wall clock moves it."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def boot_id() -> str:
    """Which boot `boottime` counts from."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


class Host:
    """A host: every path below `root`, every command through `run`, every clock injected.

    `python` is the interpreter that venvs are made from. `become` is False where commands
    cannot change their user (tests).
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        run: Runner = run_command,
        wall: Callable[[], float] = time.time,
        boottime: Callable[[], float] = boottime,
        boot_id: Callable[[], str] = boot_id,
        sleep: Callable[[float], None] = time.sleep,
        python: str = "/usr/bin/python3",
        become: bool = True,
        yield_cpu: Callable[[], None] = lambda: None,
    ) -> None:
        self.root = root
        self.run = run
        self.wall = wall
        self.boottime = boottime
        self.boot_id = boot_id
        self.sleep = sleep
        self.python = python
        self.become = become
        self.yield_cpu = yield_cpu

    def path(self, absolute: str) -> Path:
        """Where the host's file `absolute` is."""
        return self.root / absolute.lstrip("/")

    @property
    def incoming(self) -> Path:
        """The folder where the deploy user uploads releases."""
        return self.path("/var/lib/backline/incoming")

    def state(self, app: str) -> Path:
        """The folder of an app's journal, lease, fence and state."""
        return self.path(f"/var/lib/backline/{app}")
