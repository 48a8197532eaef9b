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
