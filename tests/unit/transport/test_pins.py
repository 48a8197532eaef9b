"""Pinned host keys: read once, and never more trusting than OpenSSH."""

from __future__ import annotations

import time
from pathlib import Path

import paramiko
import pytest

from backline.transport import connection, pins
from backline.transport.port import Target

KEYS = [paramiko.ECDSAKey.generate() for _ in range(3)]


def line(names: str, key: paramiko.PKey) -> str:
    return f"{names} {key.get_name()} {key.get_base64()} a comment\n"


def known(text: str, address: str, port: int = 22) -> list[paramiko.PKey]:
    keys = paramiko.HostKeys()
    pins.Pins(text).into(keys, address, port)
    name = address if port == 22 else f"[{address}]:{port}"
    return list((keys.lookup(name) or {}).values())


def test_a_host_is_known_by_each_of_its_names_and_by_no_other() -> None:
    text = line("stream1,198.51.100.1", KEYS[0]) + line("[stream1]:2222", KEYS[1])
    assert known(text, "stream1") == known(text, "198.51.100.1") == [KEYS[0]]
    assert known(text, "stream1", 2222) == [KEYS[1]]
    assert known(text, "stream") == known(text, "198.51.100.1", 2222) == []


def test_hashed_names_are_found() -> None:
    text = line(paramiko.HostKeys.hash_host("[db1]:2022"), KEYS[0])
    assert known(text, "db1", 2022) == [KEYS[0]] and known(text, "db1") == []


def test_of_two_keys_of_one_kind_the_first_counts() -> None:
    assert known(line("db1", KEYS[0]) + line("db1", KEYS[1]), "db1") == [KEYS[0]]


@pytest.mark.parametrize(
    "text",
    [
        "# " + line("db1", KEYS[0]),
        "@cert-authority " + line("db1", KEYS[0]),
        "@revoked " + line("db1", KEYS[0]),
        line("*", KEYS[0]),
        line("db?", KEYS[0]),
        "db1 ssh-ed25519 not!base64\n",
        "db1 ssh-unknown AAAA\n",
        "db1\n",
        "",
    ],
)
def test_what_names_no_host_plainly_pins_nothing(text: str) -> None:
    assert known(text, "db1") == []


REVOKED = "@revoked " + line("db1", KEYS[0])


@pytest.mark.parametrize(
    "names",
    ["db1", "*", "db?", "web1,db*", "DB1", paramiko.HostKeys.hash_host("db1")],
)
def test_a_revoked_key_pins_nothing_though_an_older_line_does(names: str) -> None:
    text = line("db1", KEYS[0]) + "@revoked " + line(names, KEYS[0])
    (key,) = known(text, "db1")
    with pytest.raises(paramiko.BadHostKeyException) as caught:
        assert key != KEYS[0]  # as paramiko compares
    assert caught.value.expected_key.get_name() == "any but the revoked ecdsa-sha2-nistp256"
    assert key != KEYS[1] and key.get_name() == KEYS[0].get_name()
    db1 = Target("db1", "192.0.2.1", 22, "deploy", None)
    said = connection.explain(db1, Path("stage/known_hosts"), caught.value)
    assert "host-compromised" in said.hint and "--replace" not in said.hint


@pytest.mark.parametrize("names", ["db2", "db", "!db1,*", "[db1]:2222", "db1.example"])
def test_a_key_that_is_revoked_for_others_is_not_for_this_host(names: str) -> None:
    text = line("db1", KEYS[0]) + "@revoked " + line(names, KEYS[0])
    assert known(text, "db1") == [KEYS[0]]


def test_another_key_of_the_kind_takes_the_place_of_a_revoked_one() -> None:
    assert known(REVOKED + line("db1", KEYS[0]) + line("db1", KEYS[1]), "db1") == [KEYS[1]]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    for key in KEYS:
        path.with_suffix(".new").write_text(line("db1", key))
        path.with_suffix(".new").replace(path)
        keys = paramiko.HostKeys()
        pins.read(path).into(keys, "db1", 22)
        assert list((keys.lookup("db1") or {}).values()) == [key]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pins.read(path)


def test_thousands_of_hosts_cost_no_time() -> None:
    text = "".join(line(f"host{number}", KEYS[number % 3]) for number in range(3000))
    found, began = pins.Pins(text), time.process_time()
    for number in range(3000):
        found.into(paramiko.HostKeys(), f"host{number}", 22)
    assert time.process_time() - began < 3  # paramiko's own reader: minutes
