"""What Prometheus asks, whom Alertmanager tells, and what is kept quiet."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.templates.test_templates import render

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
GROUPS = {
    "all": ["edge1", "stream1", "worker1"],
    "edge": ["edge1"],
    "streaming": ["stream1"],
    "media": ["worker1"],
    "worker": ["worker1"],
    "zone_a": ["edge1", "stream1"],
}
HOSTVARS = {
    "edge1": {"fleet_address": "198.51.100.11", "zone": "a"},
    "stream1": {"fleet_address": "198.51.100.21", "zone": "a"},
    "worker1": {"fleet_address": "198.51.100.51", "zone": "b"},
}
SECRET = "https://hooks.example.com/T0/s3cret"


def config(template: str, **more: Any) -> dict[str, Any]:
    own = {"inventory_hostname": "monitor1", "monitor_listen_address": "198.51.100.71"}
    read: dict[str, Any] = yaml.safe_load(render("monitor", template, **{**own, **more}))
    return read


def monitoring() -> ModuleType:
    path = PLAYBOOKS / "filter_plugins/monitoring.py"
    spec = importlib.util.spec_from_file_location("monitoring", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_host_is_asked_once_for_each_job_that_it_has() -> None:
    jobs = {
        "node": {"groups": ["all"], "port": 9100},
        "nginx": {"groups": ["streaming", "media"], "port": 9113},
        "rabbitmq": {"groups": ["broker"], "port": 15692},
    }
    targets = monitoring().scrape_targets(jobs, GROUPS, HOSTVARS)
    assert set(targets) == {"node", "nginx"}, "nobody is a broker here"
    assert [t["address"] for t in targets["nginx"]] == ["198.51.100.21:9113", "198.51.100.51:9113"]
    assert targets["node"][2] == {
        "host": "worker1",
        "address": "198.51.100.51:9100",
        "zone": "b",
        "role": "media-worker",
    }


def test_prometheus_asks_with_the_inventorys_labels_and_watches_itself() -> None:
    target = {"host": "edge1", "address": "198.51.100.11:9100", "zone": "a", "role": "edge"}
    read = config("prometheus.yml.j2", monitor_targets={"node": [target]})
    jobs = {job["job_name"]: job for job in read["scrape_configs"]}
    assert set(jobs) == {"prometheus", "alertmanager", "node"}
    (node,) = jobs["node"]["static_configs"]
    assert node["targets"] == ["198.51.100.11:9100"]
    assert node["labels"] == {"host": "edge1", "zone": "a", "role": "edge"}
    (own,) = jobs["prometheus"]["static_configs"]
    assert own["labels"]["host"] == "monitor1"


def test_a_broker_is_asked_for_each_queue_too() -> None:
    target = {"host": "broker1", "address": "198.51.100.41:15692", "zone": "a", "role": "broker"}
    read = config("prometheus.yml.j2", monitor_targets={"rabbitmq": [target]})
    (job,) = [j for j in read["scrape_configs"] if j["job_name"] == "rabbitmq-queues"]
    assert job["metrics_path"] == "/metrics/detailed"
    assert job["params"] == {"family": ["queue_coarse_metrics"]}
    assert job["static_configs"][0]["targets"] == ["198.51.100.41:15692"]


TLS = {"ca": "/pki/ca.pem", "certificate": "/pki/host.pem", "key": "/pki/host.key", "group": "pki"}
ETCD = {"host": "db1", "address": "198.51.100.31:2381", "zone": "a", "role": "database"}


def test_daemons_that_speak_tls_only_are_asked_with_the_hosts_certificate() -> None:
    targets = {"etcd": [ETCD], "node": [{**ETCD, "address": "198.51.100.31:9100"}]}
    read = config(
        "prometheus.yml.j2",
        monitor_targets=targets,
        monitor_tls_jobs=["etcd", "patroni"],
        monitor_tls=TLS,
    )
    jobs = {job["job_name"]: job for job in read["scrape_configs"]}
    assert "patroni" not in jobs, "nobody has one here"
    assert jobs["etcd"]["scheme"] == "https"
    wanted = {"ca_file": "/pki/ca.pem", "cert_file": "/pki/host.pem", "key_file": "/pki/host.key"}
    assert jobs["etcd"]["tls_config"] == wanted, "its name is checked, and nothing is skipped"
    assert "scheme" not in jobs["node"] and "tls_config" not in jobs["node"]


@pytest.mark.parametrize(
    "unit", ["prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter"]
)
def test_prometheus_alone_may_read_the_hosts_key(unit: str) -> None:
    item = {"name": unit, "memory": "1G", "writes": ""}
    groups = re.findall(
        r"^SupplementaryGroups=(.+)$",
        render("monitor", "unit.conf.j2", item=item, monitor_tls=TLS),
        re.M,
    )
    assert groups == (["pki"] if unit == "prometheus" else [])
    assert "SupplementaryGroups" not in render("monitor", "unit.conf.j2", item=item), (
        "there is no such group"
    )


def play() -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load((PLAYBOOKS / "monitor.yml").read_text())[1]["roles"][0][
        "vars"
    ]
    return given


def test_the_firewall_lets_the_monitor_ask_whatever_it_asks() -> None:
    openings = yaml.safe_load((PLAYBOOKS / "group_vars/all.yml").read_text())["fleet_openings"]
    for job, asked in play()["__monitor_jobs"].items():
        for group in asked["groups"]:
            lets = [
                opening
                for opening in openings[group] + openings["all"]
                if asked["port"] in opening.get("ports", [])
                and "__monitor_addresses" in str(opening["from"])
            ]
            assert lets, f"{job}: nobody may ask {group} on port {asked['port']}"


def test_a_port_is_the_one_on_which_the_role_answers() -> None:
    jobs = play()["__monitor_jobs"]
    for job, role, option in (
        ("patroni", "database", "database_restapi_port"),
        ("etcd", "database", "database_etcd_metrics_port"),
        ("database_proxy", "database_proxy", "database_proxy_metrics_port"),
    ):
        defaults = yaml.safe_load(
            (PLAYBOOKS.parent / f"roles/{role}/defaults/main.yml").read_text()
        )
        assert jobs[job]["port"] == defaults[option], job


def test_a_fleet_without_database_hosts_has_no_jobs_for_them() -> None:
    targets = monitoring().scrape_targets(play()["__monitor_jobs"], GROUPS, HOSTVARS)
    assert set(targets) == {"node", "haproxy", "nginx", "database_proxy"}
    read = config(
        "prometheus.yml.j2", monitor_targets=targets, monitor_tls_jobs=play()["monitor_tls_jobs"]
    )
    assert not [job for job in read["scrape_configs"] if "tls_config" in job]


def test_the_edge_is_tried_through_the_blackbox_exporter() -> None:
    edge = {"host": "edge1", "address": "198.51.100.11:443", "zone": "a"}
    read = config("prometheus.yml.j2", monitor_edges=[edge])
    (job,) = [j for j in read["scrape_configs"] if j["job_name"] == "edge-tls"]
    assert job["relabel_configs"][-1]["replacement"] == "127.0.0.1:9115"
    module = config("blackbox.yml.j2", monitor_edge_server_name="music.example.com")
    tls = module["modules"]["edge"]["tcp"]["tls_config"]
    assert tls["server_name"] == "music.example.com"


@pytest.mark.parametrize(("url", "receiver"), [("", "nobody"), (SECRET, "webhook")])
def test_alerts_go_to_the_webhook_or_stay(url: str, receiver: str) -> None:
    read = config("alertmanager.yml.j2", monitor_webhook_url=url)
    assert read["route"]["receiver"] == receiver
    receivers = {r["name"]: r for r in read["receivers"]}
    assert ("webhook" in receivers) == bool(url)
    assert "webhook_configs" not in receivers["nobody"]


def test_the_watchdog_does_not_wake_anybody() -> None:
    for url, receiver in (("", "nobody"), (SECRET, "watchdog")):
        read = config("alertmanager.yml.j2", monitor_webhook_url=SECRET, monitor_watchdog_url=url)
        (route,) = read["route"]["routes"]
        assert route["matchers"] == ["alertname = Watchdog"] and route["receiver"] == receiver


def test_a_host_that_is_down_mutes_its_own_alerts_only() -> None:
    rule = config("alertmanager.yml.j2")["inhibit_rules"][0]
    assert rule["source_matchers"] == ["alertname = HostDown"] and rule["equal"] == ["host"]


def test_only_alerts_that_exist_mute_others_and_none_mutes_itself() -> None:
    rules = (PLAYBOOKS.parent / "roles/monitor/files/rules").glob("*.yml")
    groups = [group for path in rules for group in yaml.safe_load(path.read_text())["groups"]]
    known = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    for rule in config("alertmanager.yml.j2")["inhibit_rules"]:
        (sources, targets) = (
            {name for matcher in rule[side] for name in re.findall(r"[A-Z]\w+", matcher)}
            for side in ("source_matchers", "target_matchers")
        )
        assert sources and targets and sources | targets <= known
        assert not sources & targets or rule["target_matchers"] == ["alertname != HostDown"]


@pytest.mark.parametrize(
    ("unit", "port"),
    [
        ("prometheus", 9090),
        ("prometheus-alertmanager", 9093),
        ("prometheus-blackbox-exporter", 9115),
    ],
)
def test_a_unit_listens_where_it_was_told_and_no_secret_is_in_its_command_line(
    unit: str, port: int
) -> None:
    item = {"name": unit, "memory": "1G", "writes": ""}
    text = render(
        "monitor", "unit.conf.j2", item=item, monitor_listen_address="198.51.100.71",
        monitor_webhook_url=SECRET, monitor_watchdog_url=SECRET,
    )  # fmt: skip
    (listen,) = re.findall(r"--web.listen-address=(\S+)", text)
    address = "127.0.0.1" if unit.endswith("exporter") else "198.51.100.71"
    assert listen == f"{address}:{port}" and SECRET not in text
