"""Filters of the role edge."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable


def edge_in_network(address: str, network: str) -> bool:
    """True when `address` is a host's address in `network` (198.51.100.0/24); False if either is no such."""
    try:
        net = ipaddress.ip_network(network, strict=False)
        host = ipaddress.ip_address(address)
    except ValueError:
        return False
    return host in net and host not in (net.network_address, net.broadcast_address)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., object]]:
        return {"edge_in_network": edge_in_network}
