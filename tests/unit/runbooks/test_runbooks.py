"""Whoever is woken by an alert finds its page, and on the page what to do with commands that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.collection import Collection
from invoke.loader import FilesystemLoader

ROOT = Path(__file__).parents[3]
PAGES = sorted(p for p in (ROOT / "docs/runbooks").glob("*.md") if p.name != "README.md")
RULES = sorted((ROOT / "roles/monitor/files/rules").glob("*.yml"))
SECTIONS = [
    "What it means",
    "What listeners hear",
    "First look",
    "Likely causes",
    "Mend",
    "It is over when",
]


def alerts() -> dict[str, dict[str, Any]]:
    groups = [g for path in RULES for g in yaml.safe_load(path.read_text())["groups"]]
    return {r["alert"]: r for group in groups for r in group["rules"] if "alert" in r}


ALERTS = alerts()
OF_NO_HOST = {
    # Releases differ between hosts, queues have copies on several, and the watchdog is about the whole.
    "ReleasesDiffer", "QueueGrowing", "DeadLetters", "Watchdog",
    # A cluster's, whoever of its members tells.
    "NoPrimary", "TwoPrimaries", "NoSynchronousReplica", "PatroniPaused", "PatroniFailsafe",
    "EtcdWithoutQuorum",
}  # fmt: skip


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])", "-", name).lower()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_where_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
    notes = alert["annotations"]
    assert notes["runbook"] == f"docs/runbooks/{kebab(name)}.md"
    assert (ROOT / notes["runbook"]).is_file(), f"whoever is woken by {name} finds no page"
    if name not in OF_NO_HOST:
        assert "$labels.host" in notes["summary"] + notes["description"]
    # HostDown has no number: nothing answers.
    assert name == "HostDown" or "$value" in notes["description"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_belongs_to_an_alert_and_is_whole(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    title = text.splitlines()[0].removeprefix("# ")
    assert title in ALERTS and kebab(title) == page.stem
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    assert parts[1::2] == SECTIONS
    assert all(len(part.strip()) > 5 for part in parts[2::2]), "a section says nothing"


def test_the_index_lists_every_page_once() -> None:
    index = (ROOT / "docs/runbooks/README.md").read_text(encoding="utf-8")
    linked = re.findall(r"^\| \[\w+\]\((.+?)\) \| (\w+) ", index, flags=re.M)
    wanted = {(f"{kebab(name)}.md", alert["labels"]["severity"]) for name, alert in ALERTS.items()}
    assert set(linked) == wanted and len(linked) == len(wanted)


def test_every_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    files = sorted((ROOT / "roles/monitor/files").glob("rules_test*.yml"))
    tests = [test for path in files for test in yaml.safe_load(path.read_text())["tests"]]
    fires, series = set(), {}
    for test in tests:
        for check in test["alert_rule_test"]:
            series.setdefault(check["alertname"], set()).add(len(test["input_series"]))
            if check["exp_alerts"]:
                fires.add(check["alertname"])
    assert fires == set(ALERTS)
    # The near miss stands beside it, as a series that must not fire.
    assert {name for name, counts in series.items() if max(counts) < 2} <= {"Watchdog"}


@pytest.mark.parametrize("program", ["fab", "inv"])
def test_pages_name_only_tasks_that_exist(program: str) -> None:
    name = {"fab": "fabfile", "inv": "tasks"}[program]
    module, _ = FilesystemLoader(start=str(ROOT)).load(name)
    known = set(Collection.from_module(module).task_names)
    for page in [*PAGES, ROOT / "docs/runbooks/README.md"]:
        for task in re.findall(rf"(?:`|\$ ){program} ([a-z.-]+)", page.read_text(encoding="utf-8")):
            assert task in known, f"{page.name}: {program} {task} does not exist"
