"""What a rotation of secrets makes of what it finds, and how it remembers that it is under way."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
TASKS = PLAYBOOKS / "tasks/rotate"
MARK = "/var/lib/backline/rotation"
NEW, OLD = {"KEY": "new"}, {"KEY": "old"}


def said(template: str, **variables: Any) -> Any:
    filter_loader.add_directory(str(PLAYBOOKS / "filter_plugins"))
    return Templar(DataLoader(), variables=variables).template(trust_as_template(template))


def task(page: str, name: str) -> dict[str, Any]:
    tasks = yaml.safe_load((TASKS / page).read_text(encoding="utf-8"))
    (found,) = [one for one in tasks if one["name"].endswith(name)]
    return dict(found)


def told(values: dict[str, str]) -> dict[str, str]:
    text = "".join(f'{name}="{value}"\n' for name, value in values.items())
    return {"content": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("values", "marks", "pending", "killed"),
    [
        ([NEW, NEW], [None, None], False, ""),
        ([NEW, OLD], [None, None], True, ""),
        ([NEW, NEW], [None, "rotate-1"], True, "rotate-1"),
        ([NEW, NEW], ["rotate-1", "rotate-1"], True, "rotate-1"),
        ([OLD, NEW], ["rotate-2", "rotate-1"], True, "rotate-2,rotate-1"),
        ([NEW, NEW], ["", None], True, ""),
    ],
)
def test_a_run_that_did_not_come_to_its_end_leaves_work_though_all_values_are_new(
    values: list[dict[str, str]], marks: list[str | None], pending: bool, killed: str
) -> None:
    hostvars = {
        f"w{number}": {
            "__rotation_read": told(value),
            "__rotation_left": {"rc": int(mark is None), "stdout": mark or ""},
        }
        for number, (value, mark) in enumerate(zip(values, marks, strict=True))
    }
    facts: dict[str, Any] = {"hostvars": hostvars, "ansible_play_hosts_all": list(hostvars)}
    facts["app_environment"] = NEW
    compare = task("look.yml", "Compare")
    for key, template in compare["vars"].items():
        facts[key] = said(template, **facts)
    found = compare["ansible.builtin.set_fact"]
    assert said(found["__rotation_pending"], **facts) is pending
    assert said(found["__rotation_killed"], **facts) == killed


def test_no_two_rotations_have_the_same_name() -> None:
    template = task("look.yml", "Name this run")["ansible.builtin.set_fact"]["__patch_run"]
    first, second = said(template), said(template)
    assert first != second
    assert re.fullmatch(r"rotate-\d{8}T\d{6}Z-[0-9a-f]{6}", first)
    assert "__patch_run" not in str(yaml.safe_load((TASKS / "host.yml").read_text())[0]["vars"])


def test_what_says_that_it_has_begun_is_there_until_every_prover_has_proven() -> None:
    *_, last = yaml.safe_load((PLAYBOOKS / "rotate_secrets.yml").read_text(encoding="utf-8"))
    (forgets,) = last["tasks"]
    assert forgets["ansible.builtin.file"] == {"path": MARK, "state": "absent"}
    assert task("look.yml", "that it has begun")["ansible.builtin.copy"]["dest"] == MARK
    assert "__rotation_proven" in task("prove.yml", "it is proven")["ansible.builtin.set_fact"]
    facts: dict[str, Any] = {
        "groups": {"database": ["db1"], "broker": ["b1"]},
        "hostvars": {"db1": {"__rotation_proven": True}, "b1": {}},
    }
    facts["__rotation_provers"] = said(forgets["vars"]["__rotation_provers"], **facts)
    proven = "{{ " + forgets["when"][-1] + " }}"
    assert said(proven, **facts) is False
    facts["hostvars"]["b1"]["__rotation_proven"] = True
    assert said(proven, **facts) is True


@pytest.mark.parametrize(
    ("page", "known"), [("database", "database_users"), ("broker", "broker_users")]
)
def test_a_password_that_stays_is_not_asked_to_be_dead(page: str, known: str) -> None:
    refused = task("prove.yml", f"Be refused by the {page} with the old ones")
    facts: dict[str, Any] = {known: [{"name": "app", "password": "new"}]}
    for key, template in refused.get("vars", {}).items():
        facts[key] = said(template, **facts)
    users = [{"name": "app", "password": "new"}, {"name": "app", "password": "old"}]
    facts[f"rotation_old_{page}_users"] = users
    assert said(refused["loop"], **facts) == users[1:]
