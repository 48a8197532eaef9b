"""What an SRE relies on: alerts that fire and arrive, and a configuration that works."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

ROLE = Path(__file__).parents[2]
UNITS = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter")
PROMETHEUS = "http://127.0.0.1:9090"


def query(host, what):
    command = f"curl -s --get {PROMETHEUS}/api/v1/query --data-urlencode 'query={what}'"
    return json.loads(host.run(command).stdout)["data"]["result"]


def eventually(ask, patience_s):
    """What `ask` says as soon as it says something, or its last answer."""
    deadline = time.monotonic() + patience_s
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(1)
    return answer


@pytest.mark.parametrize("unit", UNITS)
def test_a_daemon_is_locked_in_and_comes_back_at_boot(host, unit):
    said = host.run(f"systemd-analyze security --no-pager {unit}.service").stdout
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    assert exposure <= 1.5
    assert host.service(unit).is_running and host.service(unit).is_enabled


@pytest.mark.parametrize(
    "tests", sorted(path.name for path in (ROLE / "files").glob("rules_test*.yml"))
)
def test_every_alert_fires_when_it_should_and_not_when_it_should_not(host, tests):
    copied = subprocess.run(
        ["podman", "cp", str(ROLE / "files/."), "mol-monitor:/run/rules_test"], check=False
    )
    assert copied.returncode == 0
    done = host.run(f"cd /run/rules_test && promtool test rules {tests}")
    assert done.rc == 0, done.stdout + done.stderr


def test_an_alert_reaches_the_webhook(host):
    """`gone` answers on no port: HostDown after a minute, and nothing else is said of that host."""

    def heard():
        lines = host.run("cat /run/heard").stdout.splitlines()
        alerts = map(json.loads, lines)
        return [a for a in alerts if a["alertname"] == "HostDown" and a.get("host") == "gone"]

    alerts = eventually(heard, 120)
    assert alerts, host.run("cat /run/heard; journalctl -u prometheus-alertmanager -n 20").stdout
    assert alerts[0]["environment"] == "test"
    everything = [json.loads(line) for line in host.run("cat /run/heard").stdout.splitlines()]
    assert not [
        alert
        for alert in everything
        if alert.get("host") == "gone" and alert["alertname"] != "HostDown"
    ]
    assert "Watchdog" not in {alert["alertname"] for alert in everything}


def test_the_certificate_that_listeners_are_shown_is_looked_at(host):
    shown = eventually(lambda: query(host, "probe_ssl_earliest_cert_expiry"), 20)
    days = (float(shown[0]["value"][1]) - time.time()) / 86400
    assert 6 < days < 8 and shown[0]["metric"]["host"] == "edge1"
    assert eventually(lambda: query(host, 'ALERTS{alertname="CertificateExpiresSoon"}'), 30)


def test_the_node_exporter_has_the_names_that_the_rules_ask_for(host):
    # The age of text files is told only where there are any.
    host.check_output("echo 'backline_told 1' > /var/lib/prometheus/node-exporter/told.prom")
    told = host.run("curl -s http://127.0.0.1:9100/metrics").stdout
    names = set(re.findall(r"^(node_\w+)", told, re.M))
    rules = "".join(path.read_text() for path in sorted((ROLE / "files/rules").glob("*.yml")))
    asked = set(re.findall(r"\bnode_\w+", rules))
    # Asked of systemd only where the exporters role turns that on; reboots are a text file.
    elsewhere = {
        "node_systemd_unit_state", "node_systemd_service_restart_total", "node_reboot_required"
    }  # fmt: skip
    # A container has no disks of its own.
    disks = {name for name in asked if name.startswith("node_filesystem_")}
    assert asked - elsewhere - disks <= names


def test_the_labels_are_those_of_the_inventory(host):
    # Until ours was there, Debian's own configuration asked for a node of no name.
    up = {found["metric"]["host"]: found for found in query(host, 'up{job="node",host!=""}')}
    assert up["mol-monitor"]["value"][1] == "1" and up["gone"]["value"][1] == "0"
    assert (up["gone"]["metric"]["zone"], up["gone"]["metric"]["role"]) == ("b", "worker")


def test_a_reload_that_is_refused_fails_and_the_old_configuration_goes_on(host):
    path = "/etc/prometheus/prometheus.yml"
    host.run(f"cp -a {path} /run/good.yml && echo nonsense >> {path}")
    try:
        assert host.run("systemctl reload prometheus").rc != 0
        assert query(host, "up")
    finally:
        host.run(f"cp -a /run/good.yml {path}")
    assert host.run("systemctl reload prometheus").rc == 0
    assert query(host, "up")


def test_secrets_are_for_alertmanager_alone(host):
    file = host.file("/etc/prometheus/alertmanager.yml")
    assert (file.user, file.group, file.mode) == ("root", "prometheus", 0o640)
    for place in ("journalctl --no-pager", "ps -eo args"):
        assert "canary-of-the-webhook" not in host.run(place).stdout, place


def test_what_speaks_tls_only_is_asked_with_the_hosts_certificate(host):
    bare = "curl -sS -m 5 --cacert /etc/backline/pki/ca.pem https://127.0.0.1:9444/metrics"
    assert host.run(bare).rc != 0, "it answers anybody: this proves nothing"
    assert eventually(lambda: query(host, 'etcd_server_has_leader{job="etcd"} == 1'), 30)


def test_prometheus_alone_may_read_the_hosts_key(host):
    (gid,) = host.check_output("getent group pki | cut -d: -f3").split()
    for unit in UNITS:
        pid = host.check_output(f"systemctl show --property MainPID --value {unit}")
        groups = re.search(r"^Groups:(.*)$", host.file(f"/proc/{pid}/status").content_string, re.M)
        assert (gid in groups[1].split()) == (unit == "prometheus"), unit


def test_the_blackbox_exporter_is_nobody_elses(host):
    assert "127.0.0.1:9115" in host.run("ss -Hltn").stdout
    assert not re.search(r"(\*|0\.0\.0\.0|\[::\]):9(115|093|090|094)", host.run("ss -Hltn").stdout)
