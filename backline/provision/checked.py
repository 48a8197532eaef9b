"""Remembers which variables have passed the roles' argument specs, so that they are not checked twice.

What is remembered is a digest of everything that the check reads: the inventory, the playbooks, the
roles' specs and defaults, the limit and Ansible's version. A file outside of these that a lookup
reads is not in it; a role finds it missing when it comes to it, as Ansible always does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

# What a role's argument check reads of the role.
PARTS = ("meta", "defaults", "vars")


def digest(root: Path, inventory: Path, playbook: Path, options: Sequence[str]) -> str:
    """What the check of `playbook` on `inventory` depends on; "" when that can't be told.

    It can't of an inventory that is made anew each time: a script, or a plugin's configuration.
    """
    found = hashlib.sha256(repr((version("ansible-core"), str(playbook), *options)).encode())
    for path in _files(root, inventory):
        if path.parent == inventory and _made_anew(path):
            return ""
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(root)} {content}\n".encode())
    return found.hexdigest()


def passed(folder: Path, env: str, wanted: str) -> bool:
    """Whether `wanted` is what passed last in environment `env`."""
    try:
        return bool(wanted) and _kept(folder, env).read_text(encoding="ascii") == wanted
    except OSError:
        return False


def remember(folder: Path, env: str, value: str) -> None:
    """Keeps `value` as what passed last in environment `env`; nothing if it is empty."""
    if value:
        _kept(folder, env).write_text(value, encoding="ascii")


def _kept(folder: Path, env: str) -> Path:
    return folder / f"{env}.checked"


def _files(root: Path, inventory: Path) -> Iterator[Path]:
    roles = sorted((root / "roles").iterdir())
    yield root / "ansible.cfg"
    for folder in (
        inventory,
        root / "playbooks",
        *(role / part for role in roles for part in PARTS),
    ):
        yield from (
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        )


def _made_anew(path: Path) -> bool:
    if os.access(path, os.X_OK):
        return True
    if path.suffix not in (".yml", ".yaml"):
        return False
    return any(line.startswith(b"plugin:") for line in path.read_bytes().splitlines())
