"""What the monitor hears from a host, and what the exporters may do there."""

from __future__ import annotations

import json
import time

import pytest

UNITS = ("prometheus-node-exporter", "prometheus-nginx-exporter", "backline-metrics")
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


@pytest.mark.parametrize("unit", UNITS[:2])
def test_an_exporter_is_not_root(host, unit):
    (pid,) = host.run(f"systemctl show --property MainPID --value {unit}").stdout.split()
    assert host.run(f"stat -c %U /proc/{pid}").stdout.strip() == "prometheus"


def test_the_host_and_its_units_are_told_of(host):
    told = scrape(host, 9100)
    assert 'node_systemd_unit_state{name="nginx.service",state="active"' in told
    assert "node_memory_MemAvailable_bytes" in told and "node_cpu_seconds_total" in told
    assert "node_filesystem_avail_bytes{" in told and 'mountpoint="/"' in told
    assert "node_textfile_scrape_error 0" in told


def test_nginx_is_told_of(host):
    told = scrape(host, 9113)
    assert "nginx_up 1" in told and "nginx_connections_active" in told


def test_nobody_hears_it_on_another_address(host):
    (address,) = host.run("hostname -I").stdout.split()[:1]
    for port in (9100, 9113):
        assert host.run(f"curl -sf --max-time 2 http://{address}:{port}/metrics").rc == 7


def test_a_deploy_is_heard_of_within_20_seconds(host):
    state = json.dumps({"live": {"web": {"release": RELEASE, "previous": None}}})
    host.run("mkdir -p /etc/backline/apps/jukebox /var/lib/backline/jukebox /srv/jukebox")
    host.run("ln -sfn releases/x /srv/jukebox/current")
    host.run("printf %s %s > /var/lib/backline/jukebox/state.json", "%s", state)
    deadline = time.monotonic() + 20
    wanted = f'backline_release_info{{app="jukebox",process="web",release="{RELEASE}"}} 1'
    while wanted not in scrape(host, 9100):
        assert time.monotonic() < deadline, scrape(host, 9100)[-1500:]
        time.sleep(1)
    assert 'backline_lease_held{app="jukebox"} 0' in scrape(host, 9100)
