"""What is read of an inventory, what is kept of it, and when it is read again."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from backline import inventory
from backline.errors import BacklineError

HOSTS = """\
all:
  vars:
    backline_user: shipper
    jumper: 10.0.0
  children:
    streaming:
      hosts:
        s2: {ansible_host: "{{ jumper }}.2", ansible_port: 2222, zone: b}
        s1: {fleet_address: 198.18.0.21}
    apps:
      children: {streaming: null, workers: null}
    workers:
      hosts: {w1: null}
"""
PLUGIN = '''
DOCUMENTATION = """
name: cloudy
short_description: hosts of a cloud
options:
  plugin: {description: its name, required: true}
  hosts: {description: who is there, type: list, elements: str}
"""
from ansible.plugins.inventory import BaseInventoryPlugin

class InventoryModule(BaseInventoryPlugin):
    NAME = "cloudy"

    def verify_file(self, path):
        return path.endswith("cloud.yml")

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        for name in self._read_config_data(path)["hosts"]:
            inventory.add_host(name)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory/ of its own with one environment, `stage`."""
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    folder = tmp_path / "inventory" / "stage"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    (folder / "known_hosts").write_text("[10.0.0.2]:2222 ssh-ed25519 AAAA\n")
    (folder / "group_vars" / "all.yml").write_text(
        "db_password: sesame\nrelease_signers: ['a {{ jumper }} b']\n"
    )
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stands in for Ansible, which takes a second: the folders it was asked about."""
    calls: list[Path] = []

    def answer(source: Path, static: bool) -> dict[str, Any]:
        assert static
        calls.append(source)
        names = [line.split(":")[0].strip() for line in (source / "hosts.yml").open()]
        hosts = [{"name": name} for name in names if name[-1:].isdigit()]
        return {"hosts": hosts, "groups": {}, "shared": {}}

    monkeypatch.setattr(inventory, "_ask_ansible", answer)
    return calls


def kept(place: Path) -> list[Path]:
    return sorted((place.parents[1] / ".cache" / "inventory").glob("*.json"))


def test_hosts_groups_and_variables_are_ansibles(place: Path) -> None:
    found = inventory.load("stage")
    assert list(found.hosts) == ["s2", "s1", "w1"]
    assert found.groups["apps"] == ("s2", "s1", "w1")
    second = found.hosts["s2"]
    assert (second.address, second.port, second.user, second.zone) == (
        "10.0.0.2",
        2222,
        "shipper",
        "b",
    )
    assert set(second.groups) == {"streaming", "apps"}
    assert found.hosts["s1"].address == "s1" and found.hosts["s1"].fleet_address == "198.18.0.21"
    assert found.allowed_signers == ("a 10.0.0 b",)
    assert not found.confirm_changes
    _is_private(place)


def test_a_key_may_lie_in_a_file(place: Path) -> None:
    """As the lab's does: lookups are found by their full names, as roles call them."""
    (place / "key.pub").write_text("ssh-ed25519 AAAA me\n")
    lookup = "{{ lookup('ansible.builtin.file', inventory_dir ~ '/key.pub') }}"
    (place / "group_vars" / "all.yml").write_text(f'release_signers: ["me {lookup}"]\n')
    assert inventory.load("stage").allowed_signers == ("me ssh-ed25519 AAAA me",)


def _is_private(place: Path) -> None:
    [file] = kept(place)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "sesame" not in file.read_text()


def test_the_second_time_ansible_is_not_asked(place: Path, asked: list[Path]) -> None:
    assert inventory.load("stage") == inventory.load("stage")
    assert asked == [place]


def test_a_changed_file_is_noticed_and_replaces_what_was_kept(
    place: Path, asked: list[Path]
) -> None:
    inventory.load("stage")
    (place / "hosts.yml").write_text(HOSTS + "# changed\n")
    inventory.load("stage")
    assert len(asked) == 2
    assert len(kept(place)) == 1


@pytest.mark.parametrize("content", ["", "{", '{"hosts": 3'])
def test_a_damaged_cache_is_made_again(place: Path, asked: list[Path], content: str) -> None:
    first = inventory.load("stage")
    kept(place)[0].write_text(content)
    assert inventory.load("stage") == first
    assert len(asked) == 2


def test_a_script_is_asked_every_time(place: Path) -> None:
    script = place / "more.sh"
    script.write_text('#!/bin/sh\necho \'{"extra": {"hosts": ["x1"]}}\'\n')
    os.chmod(script, 0o755)  # noqa: PTH101
    assert "x1" in inventory.load("stage").hosts
    assert kept(place) == []


@pytest.mark.parametrize("text", ["plugin: {}\nhosts: {}\n", '{{"plugin": "{}", "hosts": {}}}\n'])
def test_a_plugin_is_asked_every_time(place: Path, text: str) -> None:
    """One of the administrator's own, beside the inventory's other files."""
    folder = place.parents[1]
    (folder / "ansible.cfg").write_text(
        f"[defaults]\ninventory_plugins = {folder}\n"
        "[inventory]\nenable_plugins = auto, yaml, ini, cloudy\n"
    )
    (folder / "cloudy.py").write_text(PLUGIN)
    (place / "cloud.yml").write_text(text.format("cloudy", '["x1"]'))
    assert {"x1", "s1"} <= set(inventory.load("stage").hosts)
    assert kept(place) == []


def test_unknown_environments_are_named_with_those_that_exist(place: Path) -> None:
    with pytest.raises(BacklineError) as raised:
        inventory.load("production")
    assert "'production'" in raised.value.message and "stage" in raised.value.hint
    (place.parent / "empty").mkdir()
    with pytest.raises(BacklineError, match="no hosts yet"):
        inventory.load("empty")


def test_what_ansible_cannot_read_is_said_in_its_words(place: Path) -> None:
    (place / "hosts.yml").write_text("all: [oops\n")
    with pytest.raises(BacklineError) as raised:
        inventory.load("stage")
    assert str(place) in raised.value.message
    assert "hosts.yml" in raised.value.state
    assert kept(place) == []


def test_vaulted_files_without_the_password_are_an_error_not_a_guess(place: Path) -> None:
    vaulted = "$ANSIBLE_VAULT;1.1;AES256\n" + "61" * 40 + "\n"
    (place / "group_vars" / "all.yml").write_text(vaulted)
    with pytest.raises(BacklineError) as raised:
        inventory.load("stage")
    assert "vault" in raised.value.state.lower() and "VAULT_PASSWORD_FILE" in raised.value.hint


def test_production_wants_changes_confirmed(place: Path, asked: list[Path]) -> None:
    place.rename(place.with_name("production"))
    assert inventory.load("production").confirm_changes
