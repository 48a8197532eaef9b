"""Who is told of new certificates, who is restarted, and who is left alone."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.unit.roles.authorities import Authority, key

PROGRAM = Path(__file__).parents[3] / "roles/pki/files/pki-consumers"
NAMES = ("DNS:db1", "IP:127.0.0.1")
CA = Authority()
SYSTEMCTL = """#!/bin/sh
# systemctl show --property=P --value UNIT
if [ "$1" != show ]; then echo "$@" >>"$UNITS/asked"; exit; fi
cat "$UNITS/$4.${2#--property=}" 2>/dev/null || echo inactive
"""


class Host:
    """A host's certificates, units that are what files say, and commands that leave a trace."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.units = folder / "pki", folder / "state", folder / "units"
        self.log, self.consumers = folder / "log", list[dict[str, Any]]()
        for path in (self.folder, self.units, folder / "bin"):
            path.mkdir()
        program = folder / "bin/systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        self.path = f"{program.parent}:{os.environ['PATH']}"
        self.renew()

    def renew(self) -> None:
        own = key()
        (self.folder / "ca.pem").write_text(CA.pem)
        (self.folder / "host.pem").write_text(CA.leaf(own, "db1", NAMES))
        (self.folder / "host.key").write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def age(self, name: str, seconds: float) -> None:
        then = time.time() - seconds
        os.utime(self.folder / name, (then, then))

    def unit(self, name: str, began: float | None) -> None:
        """A unit that began so many seconds ago; None for one that is not active."""
        (self.units / f"{name}.ActiveState").write_text("active" if began else "inactive")
        monotonic = time.clock_gettime(time.CLOCK_MONOTONIC)
        value = int((monotonic - began) * 1e6) if began else 0
        (self.units / f"{name}.ExecMainStartTimestampMonotonic").write_text(str(value))

    def consumer(self, name: str, **more: Any) -> None:
        said = {what: ["sh", "-c", f"echo {what} {name} >> {self.log}"] for what in ("reload",)}
        self.consumers.append({"name": name, "unit": f"{name}.service", **said, **more})
        self.unit(f"{name}.service", 60)

    def noting(self, what: str, name: str, then: str = "true") -> list[str]:
        return ["sh", "-c", f"echo {what} {name} >> {self.log}; {then}"]

    def run(self, action: str, *more: str) -> subprocess.CompletedProcess[str]:
        told = {"address": "127.0.0.1", "wait_seconds": 2, "consumers": self.consumers}
        (self.folder / "consumers.json").write_text(json.dumps(told))
        words = [sys.executable, PROGRAM, action, f"--folder={self.folder}"]
        return subprocess.run(
            [*words, f"--state={self.state}", *more],
            env={**os.environ, "PATH": self.path, "UNITS": str(self.units)},
            capture_output=True,
            text=True,
            check=False,
        )

    def good(self, action: str, *more: str) -> dict[str, list[str]]:
        done = self.run(action, *more)
        assert done.returncode == 0, done.stderr
        found: dict[str, list[str]] = json.loads(done.stdout)
        return found

    def heard(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_whoever_runs_is_told_once(host: Host) -> None:
    host.consumer("one")
    host.consumer("two")
    host.consumer("off")
    host.unit("off.service", None)
    assert host.good("reload") == {"done": ["one", "two"], "restart": []}
    assert host.good("reload") == {"done": [], "restart": []}
    assert host.heard() == ["reload one", "reload two"]
    host.renew()
    assert host.good("reload")["done"] == ["one", "two"]


def test_whoever_started_afterwards_has_read_them(host: Host) -> None:
    host.consumer("one")
    for name in ("ca.pem", "host.pem"):
        host.age(name, 120)
    assert host.good("reload")["done"] == []
    assert host.heard() == []


def test_a_reload_that_a_killed_run_lost_is_made_up_for(host: Host) -> None:
    """The files were written; nobody was told. Also when the daemon was told of older ones."""
    host.consumer("one")
    host.good("reload")
    host.renew()
    assert host.good("reload")["done"] == ["one"]


def test_one_that_fails_is_told_again_and_those_after_it_are_left_alone(host: Host) -> None:
    host.consumer("bad", reload=["sh", "-c", "echo no such thing >&2; exit 3"])
    host.consumer("good")
    done = host.run("reload")
    assert done.returncode == 1
    assert "bad has not taken up the new certificate" in done.stderr
    assert "ended with 3: no such thing" in done.stderr
    assert host.heard() == []
    host.consumers[0]["reload"] = host.noting("reload", "bad")
    assert host.good("reload")["done"] == ["bad", "good"]


def test_a_daemon_that_reads_by_itself_needs_no_command(host: Host) -> None:
    host.consumer("etcd", reload=[])
    assert host.good("reload")["done"] == ["etcd"]
    assert host.good("reload")["done"] == []


def test_only_an_older_process_is_restarted_for_another_bundle(host: Host) -> None:
    host.consumer("etcd", reload=[], restart=host.noting("restart", "etcd"))
    host.consumer("other")
    host.good("reload")
    assert host.good("waiting") == {"done": [], "restart": ["etcd"]}
    host.age("ca.pem", 120)
    assert host.good("waiting") == {"done": [], "restart": []}
    assert host.good("restart") == {"done": [], "restart": []}
    assert host.heard() == ["reload other"]


def test_a_restart_ends_when_it_is_healthy_again(host: Host, tmp_path: Path) -> None:
    began = host.units / "etcd.service.ExecMainStartTimestampMonotonic"
    now = "9" * 18
    asks = f'test "$(cat {began})" = {now}'
    host.consumer(
        "etcd",
        restart=host.noting("restart", "etcd", f"echo {now} > {began}"),
        healthy=["sh", "-c", asks],
    )
    assert host.good("restart") == {"done": ["etcd"], "restart": []}
    assert host.heard() == ["restart etcd"]


def test_one_that_does_not_come_back_is_an_error(host: Host) -> None:
    host.consumer("etcd", restart=["true"], healthy=["sh", "-c", "echo unhealthy; exit 1"])
    done = host.run("restart")
    assert done.returncode == 1
    assert "etcd is not healthy after its restart" in done.stderr and "unhealthy" in done.stderr


def test_in_the_dark_nobody_is_waited_for(host: Host) -> None:
    """Members of etcd start when a majority of them trusts the same."""
    host.consumer("etcd", restart=["false"], healthy=["false"])
    assert host.good("restart", "--dark")["done"] == ["etcd"]
    asked = (host.units / "asked").read_text()
    assert asked == "--no-block restart etcd.service\n"


def test_who_comes_up_in_the_dark_has_to_be_healthy_in_the_end(host: Host) -> None:
    host.consumer("etcd", healthy=["true"])
    state = host.units / "etcd.service.ActiveState"
    state.write_text("activating")
    assert "etcd.service is not active" in host.run("healthy", "--dark").stderr
    assert host.run("healthy").returncode == 0, "whoever is not active does not count"
    state.write_text("active")
    assert host.run("healthy", "--dark").returncode == 0


@contextlib.contextmanager
def server(folder: Path, postgres: bool = False) -> Iterator[int]:
    """A TLS server with the certificate that lies in `folder` now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem", folder / "host.key")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), connection:
                    if postgres:
                        assert connection.recv(8) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
                        connection.sendall(b"S")
                    context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("protocol", ["tls", "postgres"])
def test_a_daemon_has_to_show_the_very_certificate(host: Host, protocol: str) -> None:
    with server(host.folder, protocol == "postgres") as port:
        host.consumer("one", port=port, protocol=protocol)
        assert host.good("healthy") == {"done": [], "restart": []}
        assert host.good("reload")["done"] == ["one"]


def test_a_daemon_that_still_shows_the_old_one_is_an_error(host: Host) -> None:
    with server(host.folder) as port:
        host.renew()
        host.consumer("one", port=port)
        done = host.run("reload", "--settle=1")
        assert done.returncode == 1
        assert f"port {port} of 127.0.0.1 shows another certificate" in done.stderr
    assert not (host.state / "one").exists(), "it is not told again"


def test_healthy_asks_the_unit_the_command_and_the_port(host: Host) -> None:
    host.consumer("one", healthy=["sh", "-c", "exit 0"])
    host.consumer("off", healthy=["false"])
    host.unit("off.service", None)
    assert host.good("healthy") == {"done": [], "restart": []}


# The metrics beside them, for the node exporter.
METRICS = PROGRAM.with_name("pki-metrics")
METRIC = "backline_certificate_not_after_seconds"


def told(folder: Path) -> dict[str, float]:
    target = folder / "told.prom"
    done = subprocess.run(
        [
            sys.executable,
            METRICS,
            folder,
            target,
        ],
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert target.stat().st_mode & 0o777 == 0o644
    help_, kind, *samples = target.read_text().splitlines()
    assert help_.startswith(f"# HELP {METRIC} ") and kind == f"# TYPE {METRIC} gauge"
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in samples)}


def test_the_monitor_hears_when_the_certificate_and_every_ca_ends(host: Host) -> None:
    other = Authority('second "CA"', ends=10)
    (host.folder / "ca.pem").write_text(CA.pem + other.pem)
    found = told(host.folder)
    now = datetime.datetime.now(datetime.UTC).timestamp()
    days = {name: round((end - now) / 86400) for name, end in found.items()}
    assert days == {
        f'{METRIC}{{name="host",subject="CN=db1,O=Backline"}}': 90,
        f'{METRIC}{{name="ca",subject="CN=first"}}': 3650,
        # RFC 4514 escapes the quotes, and the text format the backslashes and quotes.
        f'{METRIC}{{name="ca",subject="CN=second \\\\\\"CA\\\\\\""}}': 10,
    }


@pytest.mark.parametrize("content", [None, "", "torn"])
def test_a_certificate_that_cannot_be_read_is_told_as_ended(
    host: Host, content: str | None
) -> None:
    (host.folder / "host.pem").unlink()
    if content is not None:
        (host.folder / "host.pem").write_text(content)
    found = told(host.folder)
    assert found[f'{METRIC}{{name="host",subject=""}}'] == 0
    assert len(found) == 2
