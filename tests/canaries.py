"""Looks for a fleet's secrets wherever they must not be.

Every secret of a lab is random, and so is a canary: found anywhere but in its own file, it leaked.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml

from backline.lab import files
from tests.live import Fleet

SHORTEST = 12
"""Characters. What is shorter could be found by chance."""
HOST_FILES = (
    "find /tmp /var/tmp /dev/shm /run/user /root/.ansible /home/*/.ansible /var/log"
    " -type f -exec cat {} +"
)
PAUSE = 0.1
"""Seconds between two looks at the process lists."""


def secrets(fleet: Fleet) -> dict[str, bytes]:
    """What to look for, by name: each vault_ variable, of a key in PEM its second line."""
    path = files.INVENTORY / fleet.env / "group_vars/all/secrets.yml"
    found: dict[str, bytes] = {}
    for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        text = str(value)
        if "PRIVATE KEY" in text:
            text = text.split("PRIVATE KEY-----\n", 1)[1].splitlines()[1]
        if len(text) >= SHORTEST:
            found[name] = text.encode()
    return found


def hits(where: str, content: bytes, canaries: dict[str, bytes]) -> list[str]:
    """`name in where` for each secret that `content` holds; never the secret itself."""
    return [f"{name} in {where}" for name, value in canaries.items() if value in content]


def left_behind(fleet: Fleet, canaries: dict[str, bytes], since: float) -> list[str]:
    """Secrets in the hosts' journals, logs and temporary files, and in this machine's.

    since: seconds since the epoch; older files of this machine are somebody else's.
    """
    found: list[str] = []
    for host in fleet.topology:
        for what, command in (
            ("the journal", "journalctl --no-pager --output export"),
            ("logs or temporary files", HOST_FILES),
        ):
            found += hits(
                f"{what} of {host.name}", _read(fleet.container(host.name), command), canaries
            )
    for path in _own_files(since):
        try:
            found += hits(str(path), path.read_bytes(), canaries)
        except OSError:
            continue
    return found


def _read(container: str, command: str) -> bytes:
    done = subprocess.run(
        ["podman", "exec", container, "sh", "-c", command],
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def _own_files(since: float) -> Iterator[Path]:
    for folder in (Path(tempfile.gettempdir()), Path.home() / ".ansible", Path("/dev/shm")):
        for path in folder.rglob("*"):
            try:
                fresh = path.is_file() and path.stat().st_mtime >= since
            except OSError:
                continue
            if fresh:
                yield path


class ProcessWatch:
    """Reads every command line on this machine, the hosts' too, again and again until `stop()`.

    The lab's hosts are containers, so that their processes are seen from here.
    """

    def __init__(self, canaries: dict[str, bytes]) -> None:
        self._canaries = canaries
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.found: set[str] = set()
        self.looks = 0

    def start(self) -> ProcessWatch:
        """Begins to look."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends it; `found` and `looks` are final."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(PAUSE):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                program = line.split(b"\0", 1)[0].decode(errors="replace")
                self.found.update(hits(f"the command line of {program}", line, self._canaries))
            self.looks += 1
