"""What a rotation of secrets makes of what it finds, and how it remembers that it is under way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
TASKS = PLAYBOOKS / "tasks/rotate"


def said(template: str, **variables: Any) -> Any:
    filter_loader.add_directory(str(PLAYBOOKS / "filter_plugins"))
    return Templar(DataLoader(), variables=variables).template(trust_as_template(template))


def task(page: str, name: str) -> dict[str, Any]:
    tasks = yaml.safe_load((TASKS / page).read_text(encoding="utf-8"))
    (found,) = [one for one in tasks if one["name"].endswith(name)]
    return dict(found)


def test_no_two_rotations_have_the_same_name() -> None:
    template = task("look.yml", "Name this run")["ansible.builtin.set_fact"]["__patch_run"]
    first, second = said(template), said(template)
    assert first != second
    assert re.fullmatch(r"rotate-\d{8}T\d{6}Z-[0-9a-f]{6}", first)
    assert "__patch_run" not in str(yaml.safe_load((TASKS / "host.yml").read_text())[0]["vars"])
