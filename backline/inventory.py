"""An environment's hosts and groups, read through Ansible's own loader.

Ansible needs seconds for thousands of hosts, so what the tasks need of its answer (names, groups,
where to connect; no other variable, since those may be secrets) is kept in `.cache/inventory/`
under a digest of everything in the environment's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backline import places
from backline.errors import BacklineError
from backline.transport import local
from backline.transport.port import Target

FORMAT = 7
LOAD_SECONDS = 120.0
DEPLOY_USER = "deploy"
NAMES_PLUGIN = re.compile(r"""(?:\{\s*)?["']?plugin["']?\s*:""")


@dataclass(frozen=True)
class Host(Target):
    """One host and how Fabric reaches it. `address` and `port` are SSH's, `fleet_address` the fleet's.

    `admin`: who may use `sudo` for anything (Ansible's own user); None: the inventory does not say.
    """

    fleet_address: str | None
    zone: str | None
    groups: tuple[str, ...]
    admin: str | None = None


@dataclass(frozen=True)
class Environment:
    """A fleet: hosts in inventory order, and each group's hosts (children's included).

    `rollout`: the variables rollout_…, without that prefix.
    """

    name: str
    folder: Path
    hosts: dict[str, Host]
    groups: dict[str, tuple[str, ...]]
    confirm_changes: bool
    allowed_signers: tuple[str, ...]
    rollout: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known_hosts(self) -> Path:
        """The only file of host keys that counts in this environment."""
        return self.folder / "known_hosts"


def environments(folder: Path | None = None) -> list[str]:
    """The names of all environments: the sub-folders of `inventory/` that hold an inventory."""
    place = folder or places.inventory()
    if not place.is_dir():
        return []
    return sorted(
        entry.name
        for entry in place.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and any(_sources(entry))
    )


def load(name: str, folder: Path | None = None) -> Environment:
    """The environment called `name`.

    Raises BacklineError when no such environment exists (naming those that do), or when Ansible
    cannot read it (with what Ansible said).
    """
    place = folder or places.inventory()
    if name not in environments(place):
        known = ", ".join(environments(place)) or "none"
        if (place / name).is_dir():
            raise BacklineError(
                f"environment {name!r} has no hosts yet: {place / name}/ holds no hosts.yml",
                hint="a lab is made by `inv lab.up`; other environments list their hosts there",
            )
        raise BacklineError(
            f"there is no environment {name!r}",
            hint=f"environments in {place}: {known}",
        )
    source = place / name
    if not _is_static(source):
        return _environment(name, source, _ask_ansible(source, static=False))
    kept = places.cache() / "inventory" / f"{name}-{digest(source)}.json"
    content = _read_cache(kept)
    if content is None:
        content = _ask_ansible(source, static=True)
        _write_cache(kept, content)
    return _environment(name, source, content)


def digest(source: Path) -> str:
    """SHA-256 over the paths and bytes of every file that can change what Ansible computes."""
    total = hashlib.sha256(f"format {FORMAT}\n".encode())
    files = [*_files(source), *filter(Path.is_file, [places.root() / "ansible.cfg"])]
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path}\0{content}\n".encode())
    return total.hexdigest()[:32]


def _files(source: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(source, followlinks=True):
        for name in names:
            if name != "known_hosts" and not name.endswith((".pem", "~", ".swp")):
                yield Path(folder) / name


def _sources(source: Path) -> Iterator[Path]:
    """The inventory files of an environment: not its keys, certificates and variables."""
    for path in source.iterdir():
        if path.is_file() and (
            path.suffix in (".yml", ".yaml", ".ini") or os.access(path, os.X_OK)
        ):
            yield path


def _is_static(source: Path) -> bool:
    """False when a script or an inventory plugin answers: then only asking tells who is there."""
    for path in _sources(source):
        if os.access(path, os.X_OK):
            return False
        with path.open(encoding="utf-8", errors="replace") as file:
            if any(NAMES_PLUGIN.match(line) for line in file):
                return False
    return True


def _ask_ansible(source: Path, static: bool) -> dict[str, Any]:
    words = ["-m", "backline.inventory_loader", str(source), *(["static"] if static else [])]
    done = local.run(
        [sys.executable, *words],
        cwd=places.root(),
        deadline=LOAD_SECONDS,
        env={
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_INVENTORY_IGNORE_REGEX": "known_hosts|vault_password",
            "ANSIBLE_INVENTORY_IGNORE": ".pem,.pub,.orig,.cfg,.md,~",
            "PYTHONPATH": str(places.CHECKOUT),
        },
    )
    if done.code or "Unable to parse" in done.stderr or "Failed to parse" in done.stderr:
        raise BacklineError(
            f"Ansible cannot read the inventory in {source}",
            state=done.stderr.strip()[-1500:],
            hint=f"`ansible-inventory -i {source} --list` shows the same; "
            "for vaulted files name the password file in $ANSIBLE_VAULT_PASSWORD_FILE",
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _environment(name: str, source: Path, content: dict[str, Any]) -> Environment:
    groups = {group: tuple(members) for group, members in content["groups"].items()}
    belongs: dict[str, list[str]] = {}
    for group, members in groups.items():
        for member in members:
            belongs.setdefault(member, []).append(group)
    hosts = [_host(entry, belongs.get(entry["name"], [])) for entry in content["hosts"]]
    shared = content["shared"]
    signers = shared.get("release_signers") or shared.get("hostctl_allowed_signers") or []
    return Environment(
        name=name,
        folder=source,
        hosts={host.name: host for host in hosts},
        groups=groups,
        confirm_changes=bool(shared.get("backline_confirm_changes", name == "production")),
        allowed_signers=tuple(signers) if isinstance(signers, list) else (str(signers),),
        rollout={
            key.removeprefix("rollout_"): value
            for key, value in shared.items()
            if key.startswith("rollout_")
        },
    )


def _host(entry: dict[str, Any], groups: list[str]) -> Host:
    get = entry.get  # there may be ten thousand of them
    return Host(
        name=entry["name"],
        address=_text(get("ansible_host")) or entry["name"],
        port=int(get("ansible_port") or 22),
        user=_text(get("backline_user")) or DEPLOY_USER,
        key_file=_text(get("backline_ssh_private_key_file") or get("ansible_ssh_private_key_file")),
        fleet_address=_text(get("fleet_address")),
        zone=_text(get("zone")),
        groups=tuple(groups),
        admin=_text(get("ansible_user")),
    )


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _read_cache(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _write_cache(path: Path, content: dict[str, Any]) -> None:
    """Keeps the newest answer of each environment; a cache that cannot be written costs time only."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = path.name.rsplit("-", 1)[0]
        for old in path.parent.glob(f"{name}-{'?' * 32}.json"):
            old.unlink(missing_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(content))
        partial.replace(path)
    except OSError:
        return
