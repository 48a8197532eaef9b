"""One command on many loopback hosts, by us and by others, in turns. Run by `inv bench.fanout`.

Prints one JSON object: for each way the seconds of each turn, of our wide run its memory, and how long
`fab` takes to begin, with few hosts in its inventory and with many. What it tells meanwhile goes to stderr.
Every sshd is its child and ends with it.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backline import places
from tests.sshd import Loopback, address, loopback

COMMAND = "echo hi"
BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
LONGEST = 300
"""Seconds for one turn; who needs longer has failed."""
SILENT_EVERY = 20
WIDE_TIMEOUT = 60
AS_MANY = "64"
COMPILES_ANEW = "PYTHONDONTWRITEBYTECODE"
GROUPS = 30
STARTS = 10


@dataclass(frozen=True)
class Place:
    """The hosts, an environment `bench` that names them, and where the peers are installed."""

    sshd: Loopback
    root: Path
    peers: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {"BACKLINE_ROOT": str(self.root), "BACKLINE_ENV": "bench", "NO_COLOR": "1"}
        # Nobody compiles Python anew every time, unless a test told them to.
        known = {name: value for name, value in os.environ.items() if name != COMPILES_ANEW}
        return {**known, **ours, "PATH": f"{BIN}:{os.environ['PATH']}"}


def prepare(place: Place, silent: int = 0) -> None:
    """Writes the inventory; `silent` more hosts take connections and never say a word."""
    folder = place.root / "inventory" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    count = place.sshd.count
    hosts = {
        f"h{n}": {"ansible_host": address(n), "ansible_port": place.sshd.port}
        for n in range(1, count + silent + 1)
    }
    shared = {
        "backline_user": getpass.getuser(),
        "ansible_user": getpass.getuser(),
        "ansible_ssh_private_key_file": str(place.sshd.key),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": f"-F /dev/null -o UserKnownHostsFile={place.sshd.known_hosts}",
    }
    inventory = {"all": {"vars": shared, "children": {"apps": {"hosts": hosts}}}}
    (folder / "hosts.yml").write_text(json.dumps(inventory))
    (folder / "known_hosts").write_bytes(place.sshd.known_hosts.read_bytes())
    (place.sshd.folder / "addresses").write_text("\n".join(address(n + 1) for n in range(count)))
    (place.root / "ansible.cfg").write_text("[defaults]\nforks = 64\n")
    (place.root / "pyinfra_hosts.py").write_text(_pyinfra(place))


def ways(place: Place, only: list[str]) -> dict[str, Callable[[], float]]:
    """How to run the command everywhere; each returns the seconds it took."""
    folder, port, user = str(place.sshd.folder), str(place.sshd.port), getpass.getuser()
    words = [folder, port, user, COMMAND]
    peer = str(place.peers / "bin" / "python")
    pinned = f"-F /dev/null -o UserKnownHostsFile={place.sshd.known_hosts} -p {port}"
    everybody = ",".join((place.sshd.folder / "addresses").read_text().split())
    inventory = str(place.root / "inventory" / "bench")
    raw = [str(BIN / "ansible"), "all", "-i", inventory, "-m", "raw", "-a", COMMAND, "-f", AS_MANY]
    pyinfra = [str(place.peers / "bin" / "pyinfra"), "-y", str(place.root / "pyinfra_hosts.py")]
    clush = [str(BIN / "clush"), "-w", everybody, "-l", user, "-f", AS_MANY]
    clush += ["-o", f"{pinned} -i {place.sshd.key}"]
    group = [sys.executable, str(HERE / "peers/threading_group.py")]
    found: dict[str, Callable[[], float]] = {
        "asyncssh": lambda: timed(place, [peer, str(HERE / "peers/floor.py"), *words]),
        "fab run": lambda: timed(place, [str(BIN / "fab"), "run", COMMAND, "--on", "all"]),
        "fab shell, again": lambda: again(place),
        "ThreadingGroup": lambda: timed(place, [*group, *words]),
        "pyinfra": lambda: timed(place, [*pyinfra, "exec", "--", COMMAND]),
        "parallel-ssh": lambda: timed(place, [peer, str(HERE / "peers/parallel_ssh.py"), *words]),
        "clush": lambda: timed(place, [*clush, COMMAND]),
        "ansible, cold": lambda: timed(place, raw, _control(place, "cold")),
        "ansible, warm": lambda: timed(place, raw, _control(place, "warm")),
    }
    return {name: way for name, way in found.items() if not only or name.split(",")[0] in only}


def timed(place: Place, argv: list[str], extra: dict[str, str] | None = None) -> float:
    """Seconds of a whole process; it must have had an answer from every host."""

    def answers(done: subprocess.CompletedProcess[str]) -> int:
        return _answers(done.stdout + done.stderr)

    return _seconds(place, argv, answers, place.sshd.count, extra)


def _seconds(
    place: Place,
    argv: list[str],
    count: Callable[[subprocess.CompletedProcess[str]], int],
    least: int,
    extra: dict[str, str] | None = None,
) -> float:
    """Seconds of a whole process; it must end well, and so much of what it says must `count`."""
    began = time.monotonic()
    done = subprocess.run(
        argv,
        env={**place.environment, **(extra or {})},
        cwd=places.CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    took = time.monotonic() - began
    if done.returncode or count(done) < least:
        said = (done.stdout + done.stderr)[-2000:]
        raise SystemExit(f"{argv[0]} did not answer in full:\n{said}")
    return took


def again(place: Place) -> float:
    """The second of two commands typed into `fab shell`."""
    typed = f"{COMMAND}\n\\timing\n{COMMAND}\n"
    done = subprocess.run(
        [str(BIN / "fab"), "shell", "--on", "all"],
        env=place.environment,
        cwd=places.CHECKOUT,
        input=typed,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    found = re.search(r"^  ([\d.]+) s, \d+ hosts", done.stderr, re.M)
    if done.returncode or not found:
        raise SystemExit(f"fab shell failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return float(found[1])


def wide(place: Place, silent: int) -> dict[str, Any]:
    """`fab run` on all hosts and as many silent ones: when it ended, its memory, who was shown when."""
    prepare(place, silent)
    argv = [str(BIN / "fab"), "run", COMMAND, "--on", "all", "--json"]
    timed_out = ["--timeout", str(WIDE_TIMEOUT)]
    with _mute(place, silent):
        began = time.monotonic()
        process = subprocess.Popen(
            [*argv, *timed_out],
            env=place.environment,
            cwd=places.CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout
        well = 0
        last = 0.0
        for line in process.stdout:
            if json.loads(line).get("state") == "ok":
                well, last = well + 1, time.monotonic() - began
        _, _, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - began
    return {
        "hosts": place.sshd.count + silent,
        "silent": silent,
        "answered": well,
        "last_answer": round(last, 1),
        "seconds": round(took, 1),
        "timeout": WIDE_TIMEOUT,
        "mb": round(usage.ru_maxrss / 1024),
    }


@contextmanager
def _mute(place: Place, silent: int) -> Iterator[None]:
    """Hosts whose kernel takes the connection, and nobody reads it."""
    with ExitStack() as stack:
        for number in range(place.sshd.count + 1, place.sshd.count + silent + 1):
            where = address(number), place.sshd.port
            stack.enter_context(socket.create_server(where))
        yield


def starts(place: Place, repeat: int) -> dict[str, list[float]]:
    """How long it takes until `fab` has something to say, of a fleet that it knows."""
    fab = str(BIN / "fab")
    found: dict[str, list[float]] = {}
    for _ in range(repeat):
        for name, argv in (
            ("fab --list", [fab, "--list"]),
            ("fab run --dry-run", [fab, "run", COMMAND, "--on", "all", "--dry-run"]),
        ):
            found.setdefault(name, []).append(_plain(place, argv))
    return found


def inventory(place: Place, hosts: int, repeat: int) -> dict[str, list[float]]:
    """Reading an inventory of so many hosts in YAML: by ansible-inventory, by us, by us again."""
    groups: dict[str, Any] = {f"group{number}": {"hosts": {}} for number in range(GROUPS)}
    for number in range(hosts):
        host = {"ansible_host": address(number % 60_000 + 1), "zone": f"zone{number % 3}"}
        groups[f"group{number % GROUPS}"]["hosts"][f"host{number}"] = host
    folder = place.root / "inventory" / "bench"
    file, before = folder / "hosts.yml", (folder / "hosts.yml").read_bytes()
    listed = [str(BIN / "fab"), "hosts.list", "--json", "--on", "host7"]
    ansible = [str(BIN / "ansible-inventory"), "-i", str(folder), "--list"]
    found: dict[str, list[float]] = {}
    try:
        for turn in range(repeat):
            # Nobody has read these bytes before.
            text = yaml.safe_dump({"all": {"children": groups}})
            file.write_text(f"# {time.time_ns()} {turn}\n{text}")
            for name, argv, lines in (
                ("ansible-inventory", ansible, hosts),
                ("fab, first", listed, 1),
                ("fab, again", listed, 1),
            ):
                found.setdefault(name, []).append(_plain(place, argv, lines))
    finally:
        file.write_bytes(before)
    return found


def _plain(place: Place, argv: list[str], lines: int = 1) -> float:
    """Seconds of a process that asks no host and says so many lines at least."""
    return round(_seconds(place, argv, lambda done: len(done.stdout.splitlines()), lines), 3)


def _answers(text: str) -> int:
    """How many hosts answered, in each program's own words."""
    said = len(re.findall(r"(?:^|[\s\]:])hi$", text, re.M))
    folded = re.search(r"^── \S+  (\d+) hosts?, exit 0$", text, re.M)
    counted = re.fullmatch(r"\s*(\d+)\s*", text)
    return max(said, *(int(match[1]) if match else 0 for match in (folded, counted)))


def _control(place: Place, how: str) -> dict[str, str]:
    """Ansible's shared connections: a new folder for them is cold, the last cold one's is warm."""
    folder = place.root / "cp"
    if how == "cold":
        for number in range(1000):
            folder = place.root / f"cp{number}"
            if not folder.exists():
                break
        link = place.root / "cp"
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        folder.mkdir()
    return {
        "ANSIBLE_CONFIG": str(place.root / "ansible.cfg"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder.resolve()),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=30s",
    }


def _pyinfra(place: Place) -> str:
    data = {
        "ssh_port": place.sshd.port,
        "ssh_user": getpass.getuser(),
        "ssh_key": str(place.sshd.key),
        "ssh_known_hosts_file": str(place.sshd.known_hosts),
        "ssh_strict_host_key_checking": "yes",
    }
    names = (place.sshd.folder / "addresses").read_text().split()
    return f"hosts = [(name, {data!r}) for name in {names!r}]\n"


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--hosts", type=int, default=200)
    words.add_argument("--repeat", type=int, default=3)
    words.add_argument("--only", default="")
    words.add_argument("--wide", type=int, default=0)
    words.add_argument("--inventory", type=int, default=0)
    words.add_argument("--peers", type=Path, required=True)
    given = words.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that all sshds are ended
    only = [word for word in given.only.split(",") if word]
    seconds: dict[str, list[float]] = {}
    found: dict[str, Any] = {"hosts": given.hosts, "seconds": seconds}
    # A short name: a socket's path is no longer than a hundred characters.
    with tempfile.TemporaryDirectory(prefix="bl") as folder:
        with loopback(Path(folder, "s"), given.hosts) as sshd:
            place = Place(sshd, Path(folder, "r"), given.peers)
            prepare(place)
            subprocess.run(
                [str(BIN / "fab"), "run", COMMAND, "--on", "all", "--dry-run"],
                env=place.environment,
                cwd=places.CHECKOUT,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            for turn in range(given.repeat):
                for name, way in ways(place, only).items():
                    took = way()
                    seconds.setdefault(name, []).append(round(took, 3))
                    say(f"{turn + 1}/{given.repeat} {name:18} {took:7.2f} s")
            found["starts"] = starts(place, STARTS)
            if given.inventory:
                found["inventory"] = inventory(place, given.inventory, given.repeat)
                found["inventory_hosts"] = given.inventory
        if given.wide:
            silent = given.wide // SILENT_EVERY
            with loopback(Path(folder, "w"), given.wide - silent) as sshd:
                place = Place(sshd, Path(folder, "wr"), given.peers)
                found["wide"] = wide(place, silent)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
