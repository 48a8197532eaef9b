"""Programs on the fleet's hosts, whose lines are on this machine's disk before anybody counts on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from backline.errors import BacklineError
from backline.lab.machine import podman
from tests.data.judge import Entry, parse
from tests.live import Fleet

PROGRAMS = Path(__file__).with_name("programs")
PLACE = "/var/tmp/backline-faults"
PATRONI_PYTHON = "/opt/patroni/current/bin/python"
APP_PYTHON = "/srv/jukebox/current/venv/bin/python"
APP_ENVIRONMENT = "/etc/jukebox/jukebox.env"
SOONEST_S, LATEST_S = 0.25, 2.0
"""How long until a program is started again whose host is away. A try costs this machine something."""


def install(fleet: Fleet, host: str, program: str) -> str:
    """Puts a program on a host; where it is then."""
    inside = ("exec", "-i", fleet.container(host), "sh", "-ec")
    path = f"{PLACE}/{program}.py"
    script = f"mkdir -p {PLACE}; cat >{path}.new; chmod 0644 {path}.new; mv {path}.new {path}"
    podman(*inside, script, data=(PROGRAMS / f"{program}.py").read_bytes())
    return path


def remove(fleet: Fleet, host: str) -> None:
    """Ends what still runs of the programs, and takes them away."""
    script = f"systemctl stop 'backline-fault-*' 2>/dev/null; rm -rf {PLACE}"
    podman("exec", fleet.container(host), "sh", "-c", script)


class Remote:
    """A program on a host while it runs. It ends when its standard input does.

    Its lines go to `log`, fsynced. `again`: it is started anew when its host comes back.
    """

    def __init__(self, prepare: Callable[[], list[str]], log: Path, again: bool = False) -> None:
        self.log = log
        self._prepare, self._again = prepare, again
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._known: list[Entry] = []
        self._offset = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.log.touch()
        self._thread.start()

    def end(self) -> None:
        """Tells the program to end, and does not wait for it."""
        self._over.set()
        process = self._process
        if process and process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def stop(self, limit: float = 60.0) -> None:
        """Ends the program. One that cannot be reached, on a host that stands still, is left behind."""
        self.end()
        if not self._thread.is_alive():
            return
        self._thread.join(limit)
        process = self._process
        if process and process.poll() is None:
            process.kill()
            self._thread.join(10)

    def entries(self) -> Sequence[Entry]:
        """What it has told until now. Each line is read once: who waits for one asks often."""
        with self.log.open("rb") as log:
            log.seek(self._offset)
            chunk = log.read()
        whole = chunk.rfind(b"\n") + 1
        self._known += parse(chunk[:whole].decode())
        self._offset += whole
        return self._known

    def _run(self) -> None:
        with self.log.open("ab") as log:
            pause = SOONEST_S
            while True:
                began = time.monotonic()
                with contextlib.suppress(BacklineError):
                    self._once(log.fileno())
                lived = time.monotonic() - began
                pause = SOONEST_S if lived > LATEST_S else min(2 * pause, LATEST_S)
                if self._over.wait(pause) or not self._again:
                    return

    def _once(self, log: int) -> None:
        argv = self._prepare()
        if self._over.is_set():
            return
        with self.log.with_suffix(".err").open("ab") as err:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, bufsize=0
            )
        self._process = process
        if self._over.is_set():
            self.end()
        assert process.stdout
        last = b"\n"
        while chunk := os.read(process.stdout.fileno(), 65536):
            os.write(log, chunk)
            os.fsync(log)
            last = chunk
        if not last.endswith(b"\n"):
            os.write(log, b"\n")  # cut off in the middle: the next line is one of its own
        process.wait()


def beside(fleet: Fleet, host: str, program: str, *words: str) -> Callable[[], list[str]]:
    """A program on a database host, as root, with Patroni's libraries."""

    def prepare() -> list[str]:
        path = install(fleet, host, program)
        return ["podman", "exec", "-i", fleet.container(host), PATRONI_PYTHON, path, *words]

    return prepare


def as_the_app(fleet: Fleet, host: str, program: str, *words: str) -> Callable[[], list[str]]:
    """A program on an application host, with the application's user, environment and libraries."""

    def prepare() -> list[str]:
        path = install(fleet, host, program)
        unit = f"--unit=backline-fault-{program}-{uuid.uuid4().hex[:8]}"
        run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", unit]
        run += [f"--property=EnvironmentFile={APP_ENVIRONMENT}", "--property=User=jukebox"]
        container = fleet.container(host)
        return ["podman", "exec", "-i", container, *run, APP_PYTHON, "-u", path, *words]

    return prepare


def wait_until(what: str, seconds: float, true: Callable[[], object], every: float = 0.2) -> float:
    """Seconds until it was so. AssertionError, naming `what`, when it took longer."""
    began = time.monotonic()
    while not true():
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)
    return time.monotonic() - began
