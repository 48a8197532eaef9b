"""What an alert asks for is what a daemon really exports: a name with a mistake would never fire.

The lists in exported/ were recorded from Debian 12's daemons. The names of our own text files are read from
the programs that write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "roles/monitor/files/rules").glob("*.yml"))
EXPORTED = sorted((Path(__file__).parent / "exported").glob("*.txt"))
PREFIXES = ("pg_", "patroni_", "etcd_", "haproxy_", "backline_")
PROGRAMS = [
    "roles/exporters/files/backline-metrics",
    "roles/exporters/files/pgbouncer-metrics",
    "roles/pki/files/pki-metrics",
    "roles/backup/files/backline_backup/metrics.py",
    "roles/backup/files/backline_backup/archiver.py",
]


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule


def asked(expression: str) -> set[str]:
    """The metrics that a rule asks for, of those that we know somebody for."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return {name for name in re.findall(r"\b[a-z][a-z0-9_]+\b", bare) if name.startswith(PREFIXES)}


def questions() -> set[str]:
    """What the exporter asks PostgreSQL beside its own questions."""
    asks = yaml.safe_load((ROOT / "roles/exporters/files/postgresql.yml").read_text())
    return {
        f"{question}_{column}"
        for question, answer in asks.items()
        for metric in answer["metrics"]
        for column, told in metric.items()
        if told["usage"] != "LABEL"
    }


def exported() -> set[str]:
    names = questions()
    for path in EXPORTED:
        names |= {line for line in path.read_text().splitlines() if not line.startswith("#")}
    for program in PROGRAMS:
        names |= set(re.findall(r"\bbackline_[a-z_]+\b", (ROOT / program).read_text()))
    # It puts its names together.
    pull = (ROOT / "roles/pull_mode/files/pull.py").read_text()
    return names | {
        f"backline_pull_{name}" for name in re.findall(r'\(\s*"([a-z_]+)",\s*"[A-Z]', pull)
    }


KNOWN = exported()


@pytest.mark.parametrize(("name", "rule"), list(rules()), ids=[name for name, _ in rules()])
def test_a_rule_asks_for_metrics_that_somebody_exports(name: str, rule: dict[str, Any]) -> None:
    unknown = asked(rule["expr"]) - KNOWN
    assert not unknown, f"{name} would never fire: nobody exports {sorted(unknown)}"


def test_each_daemon_of_the_data_tier_is_asked_something() -> None:
    everything = {metric for _, rule in rules() for metric in asked(rule["expr"])}
    for prefix in PREFIXES:
        assert [metric for metric in everything if metric.startswith(prefix)], prefix


def test_every_question_of_our_own_is_for_an_alert() -> None:
    everything = {metric for _, rule in rules() for metric in asked(rule["expr"])}
    assert questions() <= everything


def test_a_question_names_every_column_that_it_asks_for() -> None:
    for question, answer in yaml.safe_load(
        (ROOT / "roles/exporters/files/postgresql.yml").read_text()
    ).items():
        columns = re.findall(r"\bAS (\w+)|^SELECT (\w+),", answer["query"])
        asked_for = [named or bare for named, bare in columns]
        assert asked_for == [column for metric in answer["metrics"] for column in metric], question


def test_a_job_that_has_an_alert_of_its_own_is_no_missing_target_as_well() -> None:
    found = dict(rules())
    (pattern,) = re.findall(r'job!~"([^"]+)"', found["TargetMissing"]["expr"])
    play = yaml.safe_load((ROOT / "playbooks/monitor.yml").read_text())[1]
    for job in [*play["roles"][0]["vars"]["__monitor_jobs"], "rabbitmq-queues"]:
        own = [
            name
            for name, rule in found.items()
            if name != "TargetMissing" and re.search(rf'\bup{{job="{job}"}} == 0', rule["expr"])
        ]
        quiet = re.fullmatch(pattern, job) is not None
        assert quiet == bool(own) or job == "rabbitmq-queues", (job, own)
