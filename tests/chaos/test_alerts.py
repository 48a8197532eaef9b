"""What an alert asks for is there: on a whole fleet every rule finds numbers, or it can never ring."""

from __future__ import annotations

import json
import re
import shlex

import yaml

from backline.tasks.steps import ROOT
from tests.live import Fleet

SIZE = "full"
RULES = sorted((ROOT / "roles/monitor/files/rules").glob("*.yml"))
# No lab has hosts that pull their configuration; nobody is at work, and daily or weekly jobs did not run yet.
LATER = re.compile(
    r"backline_pull_|backline_lease_since|backline_backup_job_success\{job_name=.(drill|verify)"
)
LABELS = re.compile(r"\b(?:on|by|without|ignoring|group_left|group_right)\s*(?:\([^)]*\))?")
SELECTOR = re.compile(r"\b(?:[a-z]\w*[_:][\w:]+|up)\b(?:\{[^}]*\})?(?!\w*\()")


def ask(fleet: Fleet, query: str) -> list[dict[str, str]]:
    """The labels of what Prometheus has now."""
    monitor = fleet.hosts("monitor")[0]
    url = f"http://{fleet.address(monitor)}:9090/api/v1/query"
    words = ["curl", "--silent", "--max-time", "10", "--data-urlencode", f"query={query}", url]
    answer = json.loads(fleet.on(monitor, shlex.join(words)).out)
    assert answer["status"] == "success", answer
    return [found["metric"] for found in answer["data"]["result"]]


def selectors() -> set[str]:
    """Everything that a rule looks up: `up{job="etcd"}`, …"""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    return {found for text in expressions for found in SELECTOR.findall(LABELS.sub("", text))}


def test_every_rule_finds_what_it_asks_for(fleet: Fleet) -> None:
    asked = selectors()
    assert len(asked) > 100 and 'up{job="etcd"}' in asked
    assert [one for one in sorted(asked) if not LATER.match(one) and not ask(fleet, one)] == []


def test_a_disk_of_any_host_could_be_told_to_be_full(fleet: Fleet) -> None:
    """The alert on disks without its threshold."""
    rules = yaml.safe_load((ROOT / "roles/monitor/files/rules/hosts.yml").read_text())
    by_name = {rule.get("alert"): rule["expr"] for rule in rules["groups"][0]["rules"]}
    for name, threshold in (("DiskAlmostFull", "< 0.05"), ("InodesLow", "< 0.1")):
        assert threshold in by_name[name]
        found = ask(fleet, by_name[name].replace(threshold, ">= 0"))
        roots = {series["host"] for series in found if series["mountpoint"] == "/"}
        assert roots == {host.name for host in fleet.topology}, name
