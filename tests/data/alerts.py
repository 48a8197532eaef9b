"""What the monitor host tells of, as whoever is on call hears it: by its Alertmanager."""

from __future__ import annotations

import json

from backline.errors import BacklineError
from tests.data.cluster import inside
from tests.live import Fleet

ALERT_S = 720.0
"""Rules wait for up to five minutes, and more than one of them may have to."""


def firing(fleet: Fleet) -> set[tuple[str, str]]:
    """(alert, host) of what rings now."""
    host = fleet.hosts("monitor")[0]
    url = f"http://{fleet.address(host)}:9093/api/v2/alerts?active=true"
    try:
        listed = json.loads(inside(fleet, host, "curl", "-fsS", "--max-time", "10", url))
    except (BacklineError, ValueError):
        return set()  # nobody answers: nothing rings
    return {(a["labels"]["alertname"], a["labels"].get("host", "")) for a in listed}


def about(fleet: Fleet, host: str, before: set[tuple[str, str]]) -> set[str]:
    """The alerts that ring for a host, and did not before."""
    return {alert for alert, of in firing(fleet) - before if of == host}
