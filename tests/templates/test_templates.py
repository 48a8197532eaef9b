"""Renders the roles' templates with Ansible's own templar; an undefined variable fails the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"
Render = Callable[..., str]


def trusted(value: Any) -> Any:
    """Marks every string inside as a template, as Ansible does with what it loads from roles."""
    if isinstance(value, dict):
        return {key: trusted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [trusted(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) else value


def render(role: str, template: str, **variables: Any) -> str:
    """The text of roles/<role>/templates/<template> with the role's defaults and `variables`."""
    known: dict[str, Any] = {"ansible_managed": "Ansible managed", "ansible_check_mode": False}
    for name in ("defaults", "vars"):
        path = ROLES / role / name / "main.yml"
        if path.exists():
            known.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    source = (ROLES / role / "templates" / template).read_text(encoding="utf-8")
    templar = Templar(DataLoader(), variables=trusted({**known, **variables}))
    return str(templar.template(trust_as_template(source)))


def test_an_undefined_variable_fails() -> None:
    with pytest.raises(Exception, match="edge_backends"):
        render("edge", "haproxy.cfg.j2", edge_backends=trust_as_template("{{ edge_backends_of }}"))


def test_edge_checks_every_streaming_host_and_repeats_only_safe_requests() -> None:
    text = render(
        "edge",
        "haproxy.cfg.j2",
        edge_backends=[
            {"name": "stream1", "address": "198.51.100.21"},
            {"name": "stream2", "address": "198.51.100.22"},
        ],
        edge_public_https_port=8443,
    )
    lines = [line.strip() for line in text.splitlines()]
    assert "server stream1 198.51.100.21:8080" in lines
    assert "server stream2 198.51.100.22:8080" in lines
    assert any(line.startswith("default-server check ") for line in lines)
    assert "http-request disable-l7-retry if ! { method GET HEAD OPTIONS }" in lines
    assert "http-check disable-on-404" in lines
    assert "field(1,:)]:8443%[pathq]" in text


def test_edge_hides_the_port_that_browsers_imply() -> None:
    text = render("edge", "haproxy.cfg.j2", edge_backends=[], edge_public_https_port=443)
    assert "field(1,:)]%[pathq]" in text


def test_hosts_file_knows_the_fleet_and_itself() -> None:
    text = render("base", "hosts.j2", base_hosts=[{"name": "db1", "address": "198.51.100.31"}])
    assert "127.0.0.1 localhost" in text
    assert "198.51.100.31 db1" in text


def test_sshd_takes_keys_only() -> None:
    text = render("base", "sshd.conf.j2", base_sshd_allow_groups=["ssh-users"])
    for line in ("PasswordAuthentication no", "PermitRootLogin no", "AllowGroups ssh-users"):
        assert line in text.splitlines()
    assert "AllowGroups" not in render("base", "sshd.conf.j2")


def test_sudo_is_only_what_was_listed() -> None:
    item = {"name": "deploy", "sudo": ["/usr/local/bin/hostctl", "/usr/bin/journalctl"]}
    assert render("base", "sudoers.j2", item=item).splitlines()[-1] == (
        "deploy ALL=(root) NOPASSWD: /usr/local/bin/hostctl, /usr/bin/journalctl"
    )
