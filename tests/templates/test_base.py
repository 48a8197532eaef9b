"""The base role's files: sshd, audit rules, upgrades, sysctls."""

from __future__ import annotations

import re

from tests.templates.test_templates import render

ADA = {"name": "ada", "keys": ["ssh-ed25519 AAAA ada"], "sudo": ["ALL"]}


def test_sshd_takes_keys_only_and_never_root() -> None:
    lines = render("base", "sshd.conf.j2").splitlines()
    assert "PermitRootLogin no" in lines and "PasswordAuthentication no" in lines
    assert "AuthenticationMethods publickey" in lines
    assert not [line for line in lines if line.startswith("AllowGroups")]


def test_sshd_speaks_a_post_quantum_exchange_first_and_none_of_nists_curves() -> None:
    text = render("base", "sshd.conf.j2")
    assert "KexAlgorithms sntrup761x25519-sha512@openssh.com," in text
    assert "nistp" not in text and "sha1" not in text


def test_sshd_can_be_limited_to_groups() -> None:
    text = render("base", "sshd.conf.j2", base_sshd_allow_groups=["adm", "ops"])
    assert "AllowGroups adm ops" in text.splitlines()


def test_each_audit_rule_is_one_that_auditctl_knows() -> None:
    text = render("base", "audit.rules.j2", base_users=[ADA])
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    known = re.compile(r"-w /[\w./-]+ -p [rwxa]+ -k \w+")
    assert all(known.fullmatch(line) for line in lines), lines
    assert "-w /home/ada/.ssh -p wa -k keys" in lines


def test_packages_that_listeners_hear_are_not_upgraded_unattended() -> None:
    text = render("base", "unattended.conf.j2", base_updates_held=["nginx", "postgresql-*"])
    assert '"^nginx$";' in text and '"^postgresql-";' in text
    assert 'Automatic-Reboot "false"' in text


def test_the_inventorys_sysctls_win() -> None:
    text = render("base", "sysctl.conf.j2", base_sysctl={"vm.swappiness": 1, "vm.laptop_mode": 0})
    assert "-vm.swappiness = 1" in text and "-vm.laptop_mode = 0" in text
    assert "-vm.swappiness = 10" not in text.splitlines()


def test_the_clock_is_asked_of_the_inventorys_servers_alone() -> None:
    text = render("base", "chrony.conf.j2", base_ntp_servers=["ntp1.example.com"])
    assert "server ntp1.example.com iburst" in text and "\npool" not in text
