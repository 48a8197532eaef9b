"""What makes `fab provision` check variables again, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from backline.provision import checked

SITE = Path("playbooks/site.yml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "ansible.cfg": "[defaults]\n",
        "playbooks/site.yml": "- hosts: all\n",
        "roles/base/meta/argument_specs.yml": "argument_specs: {}\n",
        "roles/base/defaults/main.yml": "base_x: 1\n",
        "roles/base/tasks/main.yml": "[]\n",
        "inventory/lab/hosts.yml": "all:\n  hosts:\n    a1:\n",
        "inventory/lab/group_vars/all/main.yml": "base_x: 2\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(root: Path, *options: str) -> str:
    return checked.digest(root, root / "inventory" / "lab", SITE, options)


@pytest.mark.parametrize(
    "name",
    [
        "ansible.cfg",
        "playbooks/site.yml",
        "roles/base/meta/argument_specs.yml",
        "roles/base/defaults/main.yml",
        "inventory/lab/hosts.yml",
        "inventory/lab/group_vars/all/main.yml",
    ],
)
def test_what_the_check_reads_counts(root: Path, name: str) -> None:
    before = digest(root)
    (root / name).write_text((root / name).read_text() + "# more\n")
    assert digest(root) != before


def test_a_new_file_counts_and_so_does_one_that_is_gone(root: Path) -> None:
    before = digest(root)
    extra = root / "inventory/lab/group_vars/edge.yml"
    extra.write_text("edge_x: 1\n")
    assert digest(root) != before
    extra.unlink()
    assert digest(root) == before


def test_the_hosts_of_the_run_count(root: Path) -> None:
    assert digest(root) != digest(root, "--limit", "a1")


def test_tasks_do_not_count(root: Path) -> None:
    before = digest(root)
    (root / "roles/base/tasks/main.yml").write_text("[{name: x}]\n")
    assert digest(root) == before


@pytest.mark.parametrize("text", ["#!/bin/sh\n", "plugin: amazon.aws.aws_ec2\n"])
def test_an_inventory_that_is_made_anew_is_always_checked(root: Path, text: str) -> None:
    source = root / "inventory/lab/cloud.yml"
    source.write_text(text)
    if text.startswith("#!"):
        source.chmod(0o755)
    assert digest(root) == ""
    checked.remember(root, "lab", "")
    assert not checked.passed(root, "lab", "")


def test_only_what_passed_last_is_remembered(root: Path) -> None:
    value = digest(root)
    assert not checked.passed(root, "lab", value)
    checked.remember(root, "lab", value)
    assert checked.passed(root, "lab", value)
    assert not checked.passed(root, "staging", value)
    assert not checked.passed(root, "lab", digest(root, "--limit", "a1"))
