"""Real sshds on loopback addresses, as children of whoever asks, ended by them."""

from __future__ import annotations

import getpass
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backline.transport.port import Target

FIRST = ipaddress.IPv4Address("127.0.1.1")
PER_DAEMON = 16
"""sshd listens on no more addresses than that (MAX_LISTEN_SOCKS)."""
PROGRAM = shutil.which("sshd") or "/usr/sbin/sshd"
# The kernel ends it when we are killed and cannot.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


@dataclass(frozen=True)
class Loopback:
    """Hosts `h1`, `h2`, …: sshds on 127.0.1.1, 127.0.1.2, …, all on one port."""

    folder: Path
    port: int
    count: int

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def key(self) -> Path:
        return self.folder / "client"

    @property
    def targets(self) -> dict[str, Target]:
        return {
            f"h{n}": Target(f"h{n}", address(n), self.port, getpass.getuser(), str(self.key))
            for n in range(1, self.count + 1)
        }


def address(number: int) -> str:
    """127.0.1.1 is number 1."""
    return str(FIRST + number - 1)


@contextmanager
def loopback(folder: Path, count: int = 3, environment: str = "") -> Iterator[Loopback]:
    """`count` hosts for as long as the block lasts; `environment`: sshd's SetEnv for sessions."""
    assert Path(PROGRAM).exists(), "this needs sshd: apt-get install openssh-server"
    folder.mkdir(parents=True, exist_ok=True)
    place = Loopback(folder, _free_port(), count)
    _keys(place)
    daemons = []
    try:
        for start in range(1, count + 1, PER_DAEMON):
            numbers = range(start, min(start + PER_DAEMON, count + 1))
            daemons.append(_start(place, numbers, environment))
        for daemon, number in zip(daemons, range(1, count + 1, PER_DAEMON), strict=True):
            _wait(daemon, address(number), place.port)
        yield place
    finally:
        for daemon in daemons:
            _end(daemon)


def _keys(place: Loopback) -> None:
    for name in ("host", "client"):
        path = place.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    key = " ".join((place.folder / "host.pub").read_text().split()[:2])
    place.known_hosts.write_text(
        "".join(f"[{address(n)}]:{place.port} {key}\n" for n in range(1, place.count + 1))
    )


def _start(place: Loopback, numbers: range, environment: str) -> subprocess.Popen[bytes]:
    """The daemon forks a process for each connection; all are in a group of their own."""
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    config = place.folder / f"sshd{numbers.start}.conf"
    listen = "".join(f"ListenAddress {address(n)}\n" for n in numbers)
    config.write_text(
        f"{listen}Port {place.port}\nHostKey {place.folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {place.folder}/client.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 4096\nMaxSessions 64\nPrintMotd no\n"
        "AllowTcpForwarding no\nX11Forwarding no\nSubsystem sftp internal-sftp\n"
        # A shell that sshd starts reads ~/.bashrc: what the user of this machine has there is not ours.
        f"SetEnv HOME={place.folder} {environment}\n"
    )
    log = (place.folder / f"sshd{numbers.start}.log").open("wb")
    with log:
        return subprocess.Popen(
            [*ENDS_WITH_US, PROGRAM, "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(daemon: subprocess.Popen[bytes], where: str, port: int) -> None:
    end = time.monotonic() + 20
    while True:
        assert daemon.poll() is None, f"sshd on {where} ended with {daemon.returncode}"
        try:
            socket.create_connection((where, port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"sshd on {where} does not listen"
            time.sleep(0.05)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    os.killpg(daemon.pid, signal.SIGTERM)
    try:
        daemon.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.1.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
