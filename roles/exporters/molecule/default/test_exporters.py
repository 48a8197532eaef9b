"""What the monitor hears from a host, and what the exporters may do there."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

ROLES = Path(__file__).parents[3]
DAEMONS = ("prometheus-node-exporter", "prometheus-nginx-exporter", "prometheus-postgres-exporter")
UNITS = (*DAEMONS, "backline-metrics", "backline-pgbouncer-metrics")
RELEASE = "20261123T021057Z-cf75036"


def scrape(host, port: int) -> str:
    answer = host.run(f"curl -sf --max-time 5 http://127.0.0.1:{port}/metrics")
    assert answer.succeeded, f"nothing answers on {port}: {answer.stderr}"
    return answer.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_a_hole_in_an_exporter_leads_nowhere(host, unit):
    said = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -1").stdout
    exposure = float(said.split("exposure level for", 1)[1].split(":", 1)[1].split()[0])
    assert exposure <= 1.5, said


@pytest.mark.parametrize("unit", DAEMONS)
def test_an_exporter_is_not_root(host, unit):
    (pid,) = host.run(f"systemctl show --property MainPID --value {unit}").stdout.split()
    assert host.run(f"stat -c %U /proc/{pid}").stdout.strip() == "prometheus"


def test_the_host_and_its_units_are_told_of(host):
    told = scrape(host, 9100)
    assert 'node_systemd_unit_state{name="nginx.service",state="active"' in told
    assert "node_memory_MemAvailable_bytes" in told and "node_cpu_seconds_total" in told
    assert re.search(r'^node_filesystem_avail_bytes\{.*mountpoint="/"\} [1-9]', told, re.M)
    assert "node_textfile_scrape_error 0" in told


def test_it_can_tell_what_it_is_asked(host):
    told = scrape(host, 9100)
    answers = re.findall(r'^node_scrape_collector_success\{collector="(\w+)"\} (\d)', told, re.M)
    assert len(answers) > 10 and {good for _, good in answers} == {"1"}, answers


def test_file_systems_are_the_host_s_not_those_of_its_sandbox(host):
    """In there everything is read-only, and what is read-only never fills up."""
    told = scrape(host, 9100)
    mounts = set(re.findall(r'^node_filesystem_readonly\{.*mountpoint="([^"]+)"\} 0', told, re.M))
    assert "/" in mounts and not mounts & {"/home", "/root", "/var/tmp"}, told


def test_nginx_is_told_of(host):
    told = scrape(host, 9113)
    assert "nginx_up 1" in told and "nginx_connections_active" in told


def test_postgresql_tells_what_the_alerts_ask(host):
    told = scrape(host, 9187)
    assert "pg_up 1" in told and "pg_exporter_last_scrape_error 0" in told, told[-2000:]
    names = set(re.findall(r"^(pg_\w+)", told, re.M))
    rules = "".join(path.read_text() for path in (ROLES / "monitor/files/rules").glob("*.yml"))
    asked = set(re.findall(r"\bpg_\w+", rules))
    assert len(asked) > 5 and asked <= names, asked - names


def test_a_postgresql_that_comes_back_is_told_of_again(host):
    host.run("systemctl stop postgresql@15-main")
    try:
        assert "pg_up 0" in scrape(host, 9187)
    finally:
        host.run("systemctl start postgresql@15-main")
    assert "pg_up 1" in scrape(host, 9187)


def test_a_client_that_waits_for_a_connection_is_heard_of(host):
    client = "psql -h /run/pgbouncer -p 6432 -U pgbouncer music -c 'select pg_sleep(45)'"
    for number in (1, 2):
        host.run(f"systemd-run --unit=client{number} --uid=pgbouncer {client}")
    deadline = time.monotonic() + 40
    wanted = r'^backline_pgbouncer_clients\{database="music",state="waiting",user="pgbouncer"\} 1$'
    while not re.search(wanted, scrape(host, 9100), re.M):
        assert time.monotonic() < deadline, host.run("journalctl -n 30 -u 'client*'").stdout
        time.sleep(1)
    assert "backline_pgbouncer_up 1" in scrape(host, 9100)


def test_a_pgbouncer_that_is_gone_is_told_of(host):
    host.run("systemctl stop pgbouncer")
    try:
        deadline = time.monotonic() + 40
        while "backline_pgbouncer_up 0" not in scrape(host, 9100):
            assert time.monotonic() < deadline
            time.sleep(1)
    finally:
        host.run("systemctl start pgbouncer")


def test_nobody_hears_it_on_another_address(host):
    (address,) = host.run("hostname -I").stdout.split()[:1]
    for port in (9100, 9113, 9187):
        assert host.run(f"curl -sf --max-time 2 http://{address}:{port}/metrics").rc == 7


def test_a_deploy_is_heard_of(host):
    state = json.dumps({"live": {"web": {"release": RELEASE, "previous": None}}})
    host.run("mkdir -p /etc/backline/apps/jukebox /var/lib/backline/jukebox /srv/jukebox")
    host.run("ln -sfn releases/x /srv/jukebox/current")
    host.run("printf %s %s > /var/lib/backline/jukebox/state.json", "%s", state)
    deadline = time.monotonic() + 40
    wanted = f'backline_release_info{{app="jukebox",process="web",release="{RELEASE}"}} 1'
    while wanted not in scrape(host, 9100):
        assert time.monotonic() < deadline, scrape(host, 9100)[-1500:]
        time.sleep(1)
    assert 'backline_lease_held{app="jukebox"} 0' in scrape(host, 9100)
