"""The database proxy's configuration: who is asked what, and what ends a connection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.templates.test_templates import render, unit

MEMBERS = [{"name": f"db{n}", "address": f"198.51.100.3{n}"} for n in (1, 2, 3)]
OWN = {
    "database_proxy_members": MEMBERS,
    "database_proxy_tls": {"ca": "/etc/backline/pki/ca.pem"},
}


def config(**more: Any) -> dict[str, list[str]]:
    """haproxy.cfg as {section: its lines}."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in render("database_proxy", "haproxy.cfg.j2", **{**OWN, **more}).splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            lines = sections.setdefault(line.strip(), [])
        elif line.strip() and not line.strip().startswith("#"):
            lines.append(line.strip())
    return sections


@pytest.mark.parametrize(
    ("backend", "question"), [("primary", "/primary"), ("replicas", "/replica?lag=16MB")]
)
def test_pgbouncer_has_to_answer_and_patroni_to_say_so(backend: str, question: str) -> None:
    lines = config()[f"backend {backend}"]
    checks = [line for line in lines if line.startswith("tcp-check")]
    assert checks == [
        "tcp-check connect port 6432",
        "tcp-check send-binary 0000000804d21630",
        "tcp-check expect binary 4e",
        "tcp-check connect port 8008 ssl",
        rf'tcp-check send "OPTIONS {question} HTTP/1.0\r\n\r\n"',
        'tcp-check expect string " 200 OK"',
    ]


def test_each_host_is_checked_under_its_own_name_and_passed_on_untouched() -> None:
    servers = [line for line in config()["backend primary"] if line.startswith("server ")]
    assert servers == [
        f"server {m['name']} {m['address']}:6432 check ca-file /etc/backline/pki/ca.pem"
        f" verify required verifyhost {m['name']}"
        for m in MEMBERS
    ]


def test_two_failures_end_every_connection_and_one_success_brings_it_back() -> None:
    lines = config()["defaults"]
    wanted = "default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions"
    assert wanted in lines
    assert "timeout check 2s" in lines


def test_an_idle_pool_is_left_alone_and_a_vanished_peer_is_found() -> None:
    lines = config()["defaults"]
    assert "timeout client 24h" in lines and "timeout server 24h" in lines
    for side in ("cli", "srv"):
        for line in ("", "-idle 30s", "-intvl 5s", "-cnt 3"):
            option = f"{side}tcpka{line}"
            assert (f"option {option}" if not line else option) in lines


def test_readers_fall_back_to_the_primary_and_writers_to_nobody() -> None:
    found = config()
    assert "use_backend replicas if { nbsrv(replicas) gt 0 }" in found["frontend reader"]
    assert "default_backend primary" in found["frontend reader"]
    writer = found["frontend writer"]
    assert not [line for line in writer if "replicas" in line]
    assert "bind 127.0.0.1:6432" in writer and "maxconn 500" in writer


def test_there_is_room_for_both_ports_and_the_monitor() -> None:
    assert "maxconn 220" in config(database_proxy_maxconn=100)["global"]


def test_everybody_begins_as_down() -> None:
    text = render("database_proxy", "servers.j2", **OWN)
    version, header, *rows = text.splitlines()
    assert version == "1" and len(header.split()) == 26  # with the mark of a comment
    names = header.split()[1:]
    found = [dict(zip(names, row.split(), strict=True)) for row in rows]
    assert [(r["be_name"], r["srv_name"]) for r in found] == [
        (backend, member["name"]) for backend in ("primary", "replicas") for member in MEMBERS
    ]
    for row in found:
        assert (row["srv_op_state"], row["srv_admin_state"]) == ("0", "0")
        # After a 0 HAProxy 2.6 never believes a check again.
        assert row["srv_check_status"] == "1"
        assert row["srv_port"] == "6432"


def test_metrics_are_for_the_host_itself_and_for_who_is_named() -> None:
    assert "bind 127.0.0.1:8405" in config()["frontend metrics"]
    found = config(
        database_proxy_metrics_address="198.51.100.21",
        database_proxy_metrics_sources=["198.51.100.71"],
    )["frontend metrics"]
    assert "bind 127.0.0.1:8405,198.51.100.21:8405" in found
    assert "http-request deny deny_status 403 unless { src 127.0.0.1 198.51.100.71 }" in found


def test_a_reload_saves_what_is_known_and_looks_after_old_workers() -> None:
    found = unit("database_proxy", "database-proxy.service.j2", **OWN)
    check, save, signal, leavers = found["ExecReload"]
    assert check.endswith("-c -q") and save.endswith("database-proxy save")
    assert signal == "/bin/kill -USR2 $MAINPID"
    assert leavers.startswith("+") and leavers.endswith("start database-proxy-leavers.service")
    assert found["KillMode"] == ["mixed"] and found["Restart"] == ["always"]


@pytest.mark.parametrize("name", ["database-proxy", "database-proxy-leavers"])
def test_it_is_nobody_in_a_sandbox(name: str) -> None:
    found = unit("database_proxy", f"{name}.service.j2", **OWN)
    assert found["User"] == ["haproxy"] and found["CapabilityBoundingSet"] == [""]
    for key in ("NoNewPrivileges", "PrivateDevices", "PrivateTmp", "MemoryDenyWriteExecute"):
        assert found[key] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["SystemCallFilter"][:2] == ["@system-service", "~@privileged @resources"]
