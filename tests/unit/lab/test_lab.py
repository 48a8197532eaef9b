"""The lab must fit itself to the machine, say what is missing, and leave things as they were."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from backline.errors import BacklineError
from backline.lab import files, fleet, image, machine, secrets
from backline.lab.topology import topology


def silent(_: str) -> None: ...


def test_small_lab_has_every_kind_of_host_the_application_needs() -> None:
    hosts = topology("lab", "small").hosts
    assert [host.name for host in hosts] == ["edge1", "stream1", "stream2", "db1", "worker1"]
    groups = {group for host in hosts for group in host.groups}
    assert {"edge", "streaming", "media", "database", "broker", "worker"} <= groups


def test_two_labs_share_no_address_and_no_port() -> None:
    def taken(index: int) -> set[object]:
        hosts = topology("x", "full", index).hosts
        return {host.address for host in hosts} | {
            outer for host in hosts for outer, _ in host.ports.values()
        }

    first, second = taken(0), taken(1)
    assert not first & second
    assert len(first) == 15 + 15 + 4


def test_unknown_size_says_which_there_are() -> None:
    with pytest.raises(BacklineError) as error:
        topology("lab", "huge")
    assert "small, full, wide" in error.value.hint


def test_taken_port_is_named_before_any_host_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = topology("unit", "small", 7)
    monkeypatch.setattr(fleet, "states", lambda env: {})
    port = lab.hosts[0].ssh_port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(BacklineError) as error:
        fleet.check_ports(lab)
    assert f"{lab.hosts[0].ssh_port} (edge1)" in error.value.message
    assert error.value.state == "no host was made"
    fleet.check_ports(lab)


def test_without_podman_and_root_it_says_exactly_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    with pytest.raises(BacklineError) as error:
        machine.ensure_podman(silent)
    assert "sudo apt-get install -y --no-install-recommends podman runc" in error.value.hint


def test_ulimits_are_never_above_this_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.resource, "getrlimit", lambda limit: (1000, 2000))
    assert machine._ulimits(65536) == (
        '[containers]\ndefault_ulimits = ["nofile=2000:2000", "nproc=2000:2000"]\n'
    )


def test_probe_tells_what_each_attempt_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "STATE", tmp_path)
    monkeypatch.setattr(machine, "CONTAINERS_CONF", tmp_path / "containers.conf")
    monkeypatch.setattr(machine, "_boot", lambda name: "no such runtime")
    monkeypatch.setenv("CONTAINERS_CONF", "")
    with pytest.raises(BacklineError) as error:
        machine.fit("image", silent)
    assert "its defaults: no such runtime" in error.value.hint
    assert not (tmp_path / "containers.conf").exists()


def test_probe_keeps_the_first_settings_that_boot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "STATE", tmp_path)
    monkeypatch.setattr(machine, "CONTAINERS_CONF", tmp_path / "containers.conf")
    monkeypatch.setattr(machine, "FITTED", tmp_path / "fitted")
    monkeypatch.setattr(machine, "podman", lambda *words: "podman version 4")
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/sbin/runc")
    monkeypatch.setenv("CONTAINERS_CONF", "")
    answers = iter(["rlimit refused", "rlimit refused", None])
    monkeypatch.setattr(machine, "_boot", lambda name: next(answers))
    machine.fit("image", silent)
    assert 'runtime = "runc"' in (tmp_path / "containers.conf").read_text()
    assert machine.fitted()


def test_image_is_rebuilt_when_what_it_is_made_of_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(image, "FOLDER", tmp_path)
    (tmp_path / "packages.txt").write_text("systemd\n")
    before = image.image_name()
    (tmp_path / "packages.txt").write_text("systemd\nsudo\n")
    assert image.image_name() != before


def test_secrets_are_private_and_never_change_by_themselves(tmp_path: Path) -> None:
    path, ca = tmp_path / "secrets.yml", tmp_path / "ca.pem"
    secrets.ensure_secrets(path, ca, ["localhost"], ["127.0.0.1"])
    before = path.read_text()
    secrets.ensure_secrets(path, ca, ["localhost"], ["127.0.0.1"])
    assert path.read_text() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = yaml.safe_load(before)
    passwords = [values[name] for name in secrets.PASSWORDS]
    assert len(set(passwords)) == len(passwords) and min(map(len, passwords)) >= 40


def test_listeners_can_verify_the_edge(tmp_path: Path) -> None:
    pem, authority = secrets.edge_certificate(["localhost"], ["127.0.0.1", "198.18.0.11"])
    leaf = x509.load_pem_x509_certificate(pem.encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.encode()))
    (tmp_path / "site.pem").write_text(pem)
    (tmp_path / "ca.pem").write_text(authority)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "site.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    _shake_hands(client, server, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(client, server, "elsewhere.example")


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    inbox, outbox = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(inbox, outbox, server_hostname=name)
    two = server.wrap_bio(outbox, inbox, server_side=True)
    for _ in range(4):
        for side in (one, two):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()


def test_inventory_names_pinned_keys_for_every_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "STATE", tmp_path / "state")
    monkeypatch.setattr(files, "INVENTORY", tmp_path / "inventory")
    state = files.LabState("lab-unit", "small", 3)
    place = files.write_inventory(state)
    pinned = (place / "known_hosts").read_text().splitlines()
    assert len(pinned) == 5
    assert pinned[0].startswith("[127.0.0.1]:2511 ssh-ed25519 AAAA")
    hosts = yaml.safe_load((place / "hosts.yml").read_text())["all"]
    assert hosts["hosts"]["db1"]["fleet_address"] == "198.18.3.31"
    assert set(hosts["children"]["broker"]["hosts"]) == {"db1"}
    files.save(state)
    assert files.load("lab-unit") == state
    files.forget("lab-unit")
    assert not place.exists() and files.load("lab-unit") is None


def test_a_host_slow_to_die_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman gives a killed container five seconds, and fails when its last process takes longer."""
    asked = tmp_path / "asked"
    (tmp_path / "podman").write_text(
        f'#!/bin/sh\necho "$@" >> {asked}\n'
        f'[ "$(wc -l < {asked})" -ge "$(cat {tmp_path}/needed)" ] && exit 0\n'
        'echo "Error: given PID did not die within timeout" >&2; exit 125\n'
    )
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine.time, "sleep", lambda _: None)
    (tmp_path / "needed").write_text("3")
    machine.remove("one", "two", grace=5)
    asks = asked.read_text().splitlines()
    assert asks == ["rm --force --ignore --volumes --time 5 one two"] * 3
    (tmp_path / "needed").write_text("99")
    with pytest.raises(BacklineError, match="did not die within timeout"):
        machine.remove("one", tries=2)
    assert len(asked.read_text().splitlines()) == 5
