"""A fleet of real sshds on loopback addresses, as an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backline import places
from tests.sshd import Loopback

COUNT = 4


@dataclass(frozen=True)
class Place:
    """An environment `loop` of hosts h1, h2, … in a root of its own, and `fab` to be typed there."""

    root: Path
    sshd: Loopback
    environment: Mapping[str, str]
    programs: Path
    """Comes first on the hosts' PATH."""

    def fab(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """`fab WORDS` and what it printed; without `stdin` it is /dev/null."""
        source = {"stdin": subprocess.DEVNULL} if stdin is None else {}
        done = subprocess.run(
            [*self.argv, *words],
            cwd=places.CHECKOUT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=90,
            **source,  # type: ignore[call-overload]
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    @property
    def argv(self) -> list[str]:
        return [str(Path(sys.executable).with_name("fab"))]

    @property
    def audit(self) -> list[dict[str, object]]:
        """The entries of the audit trail."""
        path = self.root / ".backline" / "loop" / "audit.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


def write(root: Path, sshd: Loopback, confirm: bool = False) -> None:
    """The inventory of these hosts: even ones in group `even`, `dead` answers to nobody."""
    folder = root / "inventory" / "loop"
    folder.mkdir(parents=True, exist_ok=True)
    hosts = {
        name: {"ansible_host": target.address, "ansible_port": target.port}
        for name, target in sshd.targets.items()
    }
    some = next(iter(sshd.targets.values()))
    shared = {
        "backline_user": some.user,
        "ansible_user": some.user,
        "ansible_ssh_private_key_file": some.key_file,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder}/known_hosts",
        "ansible_python_interpreter": "/usr/bin/python3",
        "backline_confirm_changes": confirm,
    }
    even = {name: {} for name in hosts if int(name[1:]) % 2 == 0}
    dead = {"dead": {"ansible_host": "127.0.1.200", "ansible_port": sshd.port}}
    groups = {"apps": {"hosts": hosts}, "even": {"hosts": even}, "gone": {"hosts": dead}}
    inventory = {"all": {"vars": shared, "children": groups}}
    (folder / "hosts.yml").write_text(json.dumps(inventory))
    (folder / "known_hosts").write_text(sshd.known_hosts.read_text())


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.05)


def ended(marker: Path, seconds: float = 8) -> bool:
    """Whether the process that wrote its number there ends within some seconds."""
    pid = marker.read_text().strip()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False
