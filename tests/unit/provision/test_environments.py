"""Every environment has what the playbooks need, and a new one is made whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.context import Context

from backline import inventory
from backline.lab.secrets import PASSWORDS
from backline.provision import skeleton
from backline.tasks.env import new
from tests import documented

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
ONLY_LAB = {"lab_folder"}
# What the lab's hosts need because they share one machine.
ON_ONE_MACHINE = {
    "backup_archive_timeout",
    "backup_drill_free_mb",
    "broker_memory_mb",
    "broker_schedulers",
    "database_memory_mb",
    "edge_rate_limit",
}
NOT_LAB = {"backline_confirm_changes"}


def names(folder: Path) -> dict[str, set[str]]:
    """The variables of each file or folder of group_vars; vaulted files aside."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.yml")):
        text = path.read_text()
        if path.name == "secrets.yml" or text.startswith("$ANSIBLE_VAULT"):
            continue
        group = path.relative_to(folder).parts[0].removesuffix(".yml")
        found.setdefault(group, set()).update(yaml.safe_load(text) or {})
    return found


@pytest.mark.parametrize("env", ["staging", "production"])
def test_an_environment_has_the_variables_that_the_lab_has(env: str) -> None:
    lab, ours = (names(ROOT / "inventory" / name / "group_vars") for name in ("lab", env))
    for group, wanted in lab.items():
        missing = wanted - ours.get(group, set()) - ONLY_LAB - ON_ONE_MACHINE
        assert not missing, f"inventory/{env}/group_vars lacks in {group}: {sorted(missing)}"
        extra = ours[group] - wanted - NOT_LAB
        assert not extra, f"inventory/lab/group_vars lacks in {group}: {sorted(extra)}"


@pytest.mark.parametrize("env", ["staging", "production"])
def test_the_secrets_are_encrypted(env: str) -> None:
    text = (ROOT / "inventory" / env / "group_vars" / "all" / "vault.yml").read_text()
    assert text.startswith("$ANSIBLE_VAULT;1.1;AES256\n")


def ansible(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / program), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_GATHERING": "explicit", "PATH": f"{BIN}:{os.environ['PATH']}"},
    )


def assert_roles_take(inventory: str | Path, password: str | Path) -> None:
    """Without a connection: only the roles' argument specs are looked at."""
    done = ansible(
        "ansible-playbook", "-i", str(inventory), "playbooks/site.yml",
        "--vault-password-file", str(password), "--tags", "preflight", "--check",
        "-e", "@playbooks/vars/preflight.yml",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "Validating arguments against arg spec" in done.stdout


def test_every_role_takes_what_staging_gives_it() -> None:
    assert_roles_take("inventory/staging", "inventory/staging/vault_password")


def test_the_page_on_own_hosts_leads_to_an_environment_that_the_roles_take(tmp_path: Path) -> None:
    """Its first step as it stands there, in a home of its own; then every role's variables."""
    page = documented.commands("docs/how-to/own-hosts.md", "1. ")
    assert len(page) == 4
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAAC3Nz someone\n")
    (tmp_path / "inventory").mkdir()
    for name in ("templates", "roles", "playbooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["bash", "-euc", "\n".join(page)],
        cwd=ROOT,
        input="\n\n",
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "HOME": str(home),
            "BACKLINE_ROOT": str(tmp_path),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_roles_take(tmp_path / "inventory" / "prod", home / ".prod-vault-password")


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **flags: Any) -> int:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    (tmp_path / "inventory").mkdir(exist_ok=True)
    if not (tmp_path / "templates").exists():
        (tmp_path / "templates").symlink_to(ROOT / "templates")
    (tmp_path / "password").write_text("one-for-this-test\n")
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAAC3Nz someone\n")
    key = str(tmp_path / "key.pub")
    options = {"vault_password_file": str(tmp_path / "password"), "key": key, "signer": key}
    try:
        new(Context(), name, **{**options, **flags})
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("size", ["small", "full"])
def test_a_new_environment_is_one_that_ansible_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    assert make(tmp_path, monkeypatch, "preview", size=size) == 0
    place = tmp_path / "inventory" / "preview"
    password = ["--vault-password-file", str(tmp_path / "password")]
    listed = ansible("ansible-inventory", "-i", str(place), "--list", *password)
    told = json.loads(listed.stdout)
    assert len(told["_meta"]["hostvars"]) == len(skeleton.SIZES[size])
    secrets = [told["_meta"]["hostvars"]["edge1"][name] for name in PASSWORDS]
    assert len(set(secrets)) == len(PASSWORDS)
    said = capsys.readouterr()
    written = "".join(path.read_text() for path in place.rglob("*") if path.is_file())
    assert not [value for value in secrets if value in said.out + said.err + written]
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    assert set(inventory.load("preview").hosts) == {host for host, *_ in skeleton.SIZES[size]}
    assert stat.S_ISREG((place / "known_hosts").stat().st_mode)


@pytest.mark.parametrize("name", ["lab-x", "Prod", "../up", "a b", ""])
def test_a_bad_name_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert make(tmp_path, monkeypatch, name) == 1
    assert not list((tmp_path / "inventory").iterdir())


def test_an_environment_that_is_there_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make(tmp_path, monkeypatch, "preview") == 0
    vault = tmp_path / "inventory" / "preview" / "group_vars" / "all" / "vault.yml"
    before = vault.read_bytes()
    assert make(tmp_path, monkeypatch, "preview") == 1
    assert vault.read_bytes() == before


def test_a_private_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert make(tmp_path, monkeypatch, "preview", key=str(tmp_path / "id")) == 1
    assert not list((tmp_path / "inventory").iterdir())


def test_templates_make_every_secret_that_the_lab_has() -> None:
    assert set(skeleton.PASSWORDS) == set(PASSWORDS)
