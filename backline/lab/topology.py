"""Which hosts a lab has, their addresses and ports: pure data from lab/topology.yml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from backline.errors import BacklineError
from backline.places import CHECKOUT

ROOT = CHECKOUT
TOPOLOGY = ROOT / "lab" / "topology.yml"
HTTPS_BASE, HTTP_BASE, SSH_BASE, STRIDE = 8443, 8080, 2200, 100


@dataclass(frozen=True)
class LabHost:
    """One host of a lab: `address` inside the fleet, `ports` on 127.0.0.1 as {name: (outer, inner)}."""

    name: str
    address: str
    zone: str
    groups: tuple[str, ...]
    ports: dict[str, tuple[int, int]]

    @property
    def ssh_port(self) -> int:
        return self.ports["ssh"][0]


@dataclass(frozen=True)
class Topology:
    """A lab of one size. `index` keeps the networks and ports of several labs apart (0 for `lab`)."""

    env: str
    size: str
    index: int
    hosts: tuple[LabHost, ...]

    @property
    def network(self) -> str:
        return f"backline-{self.env}"

    @property
    def subnet(self) -> str:
        return f"198.18.{self.index}.0/24"

    def container(self, host: str) -> str:
        return f"backline-{self.env}-{host}"


def sizes() -> list[str]:
    """The sizes that lab/topology.yml knows."""
    return list(_document()["sizes"])


def topology(env: str, size: str, index: int = 0) -> Topology:
    """The hosts of lab `env` in `size`, with addresses in 198.18.<index>.0/24.

    Raises BacklineError for a size that lab/topology.yml does not have.
    """
    document = _document()
    if size not in document["sizes"]:
        raise BacklineError(
            f"there is no lab size {size!r}",
            hint=f"choose one of: {', '.join(document['sizes'])}",
        )
    chosen = document["sizes"][size]
    hosts = tuple(
        _host(name, document["hosts"][name], chosen["extra_groups"].get(name, []), index)
        for name in chosen["hosts"]
    )
    return Topology(env=env, size=size, index=index, hosts=hosts)


def _host(name: str, entry: dict[str, Any], extra: list[str], index: int) -> LabHost:
    number = int(entry["number"])
    outer = {"https": HTTPS_BASE + index * STRIDE, "http": HTTP_BASE + index * STRIDE}
    first_edge = 11
    ports = {"ssh": (SSH_BASE + index * STRIDE + number, 22)}
    for label, inner in entry.get("publish", {}).items():
        ports[label] = (outer[label] + number - first_edge, int(inner))
    return LabHost(
        name=name,
        address=f"198.18.{index}.{number}",
        zone=str(entry["zone"]),
        groups=(*entry["groups"], *extra),
        ports=ports,
    )


def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(TOPOLOGY.read_text(encoding="utf-8"))
    return document
