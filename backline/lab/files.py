"""What a lab leaves on disk: its state in .lab/<env>/, and inventory/<env>/ for Ansible and Fabric."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from backline.errors import BacklineError
from backline.lab.fleet import host_key
from backline.lab.machine import STATE
from backline.lab.secrets import ensure_secrets, ssh_key
from backline.lab.topology import ROOT, Topology, topology

INVENTORY = ROOT / "inventory"
TEMPLATE = INVENTORY / "lab"
GENERATED = ("hosts.yml", "known_hosts", "group_vars/all/secrets.yml", "edge-ca.pem")
HEADER = "---\n# Written by `inv lab.up` from lab/topology.yml.\n"


@dataclass(frozen=True)
class LabState:
    """What `.lab/<env>/lab.json` remembers of a lab."""

    env: str
    size: str
    index: int

    def topology(self) -> Topology:
        return topology(self.env, self.size, self.index)


def folder(env: str) -> Path:
    """The lab's own folder: its keys and its state, mode 0700."""
    return STATE / env


def load(env: str) -> LabState | None:
    """The state of lab `env`, or None when there is no such lab."""
    path = folder(env) / "lab.json"
    if not path.exists():
        return None
    return LabState(**json.loads(path.read_text(encoding="utf-8")))


def require(env: str) -> LabState:
    """The state of lab `env`; BacklineError when it was never made."""
    state = load(env)
    if state is None:
        raise BacklineError(f"there is no lab {env!r}", hint=f"make it: inv lab.up{_flag(env)}")
    return state


def free_index(env: str) -> int:
    """0 for `lab`; for another lab the lowest index that no lab of this machine has."""
    if env == "lab":
        return 0
    taken = {load(path.parent.name) for path in STATE.glob("*/lab.json")}
    used = {state.index for state in taken if state}
    return next(number for number in range(1, 200) if number not in used)


def save(state: LabState) -> None:
    """Remembers that this lab exists, before its first host does."""
    place = folder(state.env)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    (place / "lab.json").write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")


def write_inventory(state: LabState) -> Path:
    """Writes inventory/<env>/: hosts, known_hosts, secrets; returns the folder.

    Another lab than `lab` gets links to the variables of inventory/lab, so that both are built alike.
    """
    lab = state.topology()
    place = INVENTORY / state.env
    variables = place / "group_vars"
    if place != TEMPLATE:
        _link_variables(variables)
    place.mkdir(parents=True, exist_ok=True)
    (place / "hosts.yml").write_text(HEADER + yaml.safe_dump(_hosts(lab), sort_keys=False))
    (place / "known_hosts").write_text(_known_hosts(lab), encoding="utf-8")
    addresses = ["127.0.0.1", *(h.address for h in lab.hosts if "edge" in h.groups)]
    ensure_secrets(
        variables / "all" / "secrets.yml", place / "edge-ca.pem", ["localhost"], addresses
    )
    ssh_key(STATE / "signing_key", "release@backline")
    return place


def forget(env: str) -> None:
    """Removes everything write_inventory and save wrote for lab `env`."""
    place = INVENTORY / env
    if place == TEMPLATE:
        for name in GENERATED:
            (place / name).unlink(missing_ok=True)
    elif place.is_dir():
        shutil.rmtree(place)
    if folder(env).is_dir():
        shutil.rmtree(folder(env))


def _hosts(lab: Topology) -> dict[str, object]:
    place = folder(lab.env)
    hosts = {}
    groups: dict[str, dict[str, dict[str, None]]] = {}
    for host in lab.hosts:
        hosts[host.name] = {
            "ansible_host": "127.0.0.1",
            "ansible_port": host.ssh_port,
            "fleet_address": host.address,
            "zone": host.zone,
            **{f"published_{k}_port": outer for k, (outer, _) in host.ports.items() if k != "ssh"},
        }
        for group in (*host.groups, f"zone_{host.zone}"):
            groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = None
    return {
        "all": {
            "hosts": hosts,
            "vars": {
                "ansible_user": "backline",
                "ansible_ssh_private_key_file": str(place / "ssh_key"),
                "lab_folder": str(place),
                **_probe(lab),
            },
            "children": groups,
        }
    }


def _probe(lab: Topology) -> dict[str, object]:
    """Where a rollout's probe finds the fleet: at the first edge."""
    ports = next((host.ports["https"] for host in lab.hosts if "https" in host.ports), None)
    if ports is None:
        return {}
    return {
        "lab_https_port": ports[0],
        "rollout_probe_ca": str(INVENTORY / lab.env / "edge-ca.pem"),
    }


def _known_hosts(lab: Topology) -> str:
    lines = []
    for host in lab.hosts:
        public = ssh_key(host_key(folder(lab.env), host.name), f"root@{host.name}")
        kind, key = public.split()[:2]
        lines.append(f"[127.0.0.1]:{host.ssh_port} {kind} {key}")
    return "\n".join(lines) + "\n"


def _link_variables(variables: Path) -> None:
    """Links to every file of the template's variables; links to what is no longer there go."""
    source = TEMPLATE / "group_vars"
    for link in variables.rglob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name != "secrets.yml":
            link = variables / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path)


def _flag(env: str) -> str:
    return "" if env == "lab" else f" --env {env}"
