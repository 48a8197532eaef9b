"""The edge's configuration: what is repeated, what is believed, and who shares an address."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from backline.hostctl import balance, maintenance
from tests.templates.test_templates import ROLES, render

BACKENDS = [{"name": "stream1", "address": "198.51.100.21"}]
OWN = {"edge_address": "198.51.100.11", "edge_backends": BACKENDS}


def haproxy(**more: Any) -> dict[str, list[str]]:
    """haproxy.cfg as {section: its lines}."""
    text = render("edge", "haproxy.cfg.j2", **{**OWN, **more})
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            lines = sections.setdefault(line.strip(), [])
        elif line.strip() and not line.strip().startswith("#"):
            lines.append(line.strip())
    return sections


def keepalived(own: str) -> str:
    card = {"device": "eth0", "ipv4": {"address": own, "network": "198.51.100.0", "prefix": "24"}}
    return render(
        "edge",
        "keepalived.conf.j2",
        inventory_hostname="edge1",
        edge_address=own,
        edge_peers=["198.51.100.11", "198.51.100.12"],
        edge_virtual_address="198.51.100.10",
        ansible_facts={"interfaces": ["eth0"], "eth0": card},
    )


def test_only_safe_requests_that_reached_nobody_are_repeated() -> None:
    config = haproxy()
    assert "retry-on conn-failure empty-response" in config["defaults"]
    assert "option redispatch 1" in config["defaults"]
    safe = "http-request disable-l7-retry if ! { method GET HEAD OPTIONS }"
    assert safe in config["frontend https"]


def test_a_paused_song_outlives_a_minute_and_a_slow_sender_does_not() -> None:
    lines = haproxy()["defaults"]
    assert "timeout client 60m" in lines
    assert "timeout http-request 10s" in lines


def test_a_reload_does_not_end_downloads_of_hours() -> None:
    assert "hard-stop-after 12h" in haproxy()["global"]
    assert "option idle-close-on-response" in haproxy()["defaults"]


def test_what_listeners_say_about_the_way_is_dropped_before_it_is_set() -> None:
    lines = haproxy()["frontend https"]
    drop = lines.index("http-request del-header X-Forwarded- -m beg")
    assert drop < lines.index("http-request set-header X-Forwarded-Proto https")


def test_old_tls_is_refused() -> None:
    options = next(
        line for line in haproxy()["global"] if line.startswith("ssl-default-bind-options")
    )
    assert "ssl-min-ver TLSv1.2" in options and "no-tls-tickets" in options
    assert not [
        line for line in haproxy()["global"] if "CBC" in line or "DHE-RSA-AES128-SHA" in line
    ]


def test_maintenance_is_asked_after_the_limits_and_touches_no_health_check() -> None:
    config = haproxy()
    asked = [n for n, line in enumerate(config["frontend https"]) if "maintenance.map" in line]
    assert len(asked) == 2
    told, own = (config["frontend https"][n] for n in asked)
    assert "lf-string" in told and "-m found" in told and "errorfile" in own
    assert all(line.startswith("http-request return status 503 ") for line in (told, own))
    assert maintenance.MAP in told and config["frontend https"][asked[0] - 1].startswith(
        "http-request deny deny_status 404 if { path /_health }"
    )
    assert not [line for line in config["backend streaming"] if "maintenance" in line]


@pytest.mark.parametrize("limit", [0, 50])
def test_requests_are_counted_only_where_there_is_a_limit(limit: int) -> None:
    lines = haproxy(edge_rate_limit=limit)["frontend https"]
    counted = [line for line in lines if "429" in line or line.startswith("stick-table")]
    assert len(counted) == (2 if limit else 0)


def test_who_is_kept_out_is_read_from_the_file_that_hostctl_writes() -> None:
    config = haproxy()
    assert f"server-state-file {balance.STATE}" in config["global"]
    assert "load-server-state-from-file global" in config["defaults"]
    tasks = yaml.safe_load((ROLES / "edge/tasks/haproxy.yml").read_text())
    there = next(t for t in tasks if t.get("ansible.builtin.copy", {}).get("dest") == balance.STATE)
    assert there["ansible.builtin.copy"]["force"] is False, "a run would let everybody in again"
    configure = next(n for n, t in enumerate(tasks) if "validate" in str(t))
    assert tasks.index(there) < configure


def test_metrics_are_for_the_monitor_alone() -> None:
    lines = haproxy(edge_metrics_sources=["198.51.100.71"])["frontend metrics"]
    assert "http-request deny deny_status 403 unless { src 127.0.0.1 198.51.100.71 }" in lines
    assert "bind 198.51.100.11:8404" in lines


def test_a_challenge_goes_round_the_edges_once() -> None:
    config = haproxy(edge_certificate_source="acme", edge_peers=["198.51.100.12"])
    front = config["frontend http"]
    forwarded = front.index(
        "use_backend acme_local if challenge { req.hdr(X-Edge-Challenge) -m found }"
    )
    assert forwarded < front.index("use_backend acme if challenge")
    assert "server peer1 198.51.100.12:80" in config["backend acme"]
    assert "server peer1 198.51.100.12:80" not in config["backend acme_local"]
    assert "backend acme" not in haproxy()


def test_edges_differ_in_priority_and_name_each_other() -> None:
    first, second = keepalived("198.51.100.11"), keepalived("198.51.100.12")
    order = [int(re.findall(r"priority (\d+)", text)[0]) for text in (first, second)]
    assert order[0] > order[1]
    assert re.search(r"unicast_peer \{\s+198\.51\.100\.12\s+\}", first)
    assert "nopreempt" in first and "198.51.100.10/24 dev eth0" in first
