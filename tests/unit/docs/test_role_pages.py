"""What a role's README says is what the role's spec says, and nothing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from backline.role_pages import markdown, prose, role_pages
from backline.tasks.steps import ROOT

SPEC = """
argument_specs:
  main:
    short_description: A bell
    description:
      - Rings when C(systemctl start) says so.
      - "- once"
      - "- or twice"
    options:
      bell_tone: {type: str, choices: [low, high], default: low, description: "Which | tone."}
      bell_times: {type: int, description: How often.}
      bell_towers:
        type: list
        elements: dict
        required: true
        description: Where they hang.
        options:
          name: {type: str, required: true, description: Its name.}
          ropes:
            type: list
            elements: dict
            description: What is pulled.
            options:
              length: {type: int, description: In metres.}
  silence:
    short_description: Stops the bell
    options:
      bell_seconds: {type: int, required: true, description: How long.}
"""
PLAYBOOK = """---
- name: Bells
  hosts: church
  roles:
    - role: tower
    - role: bell
      vars:
        bell_towers: [{name: north}]

    # The next one.
    - role: clock
"""


@pytest.fixture
def page(tmp_path: Path) -> str:
    role = tmp_path / "roles" / "bell"
    for name, text in (
        ("meta/argument_specs.yml", SPEC),
        ("defaults/main.yml", "bell_times: 3\n"),
        ("tasks/main.yml", "- name: Ring\n  tags: [bell, bell_ring]\n"),
    ):
        (role / name).parent.mkdir(parents=True, exist_ok=True)
        (role / name).write_text(text, encoding="utf-8")
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "church.yml").write_text(PLAYBOOK, encoding="utf-8")
    pages = role_pages(tmp_path)
    assert list(pages) == [role / "README.md"]
    return pages[role / "README.md"]


def test_a_variable_has_its_type_default_and_choices(page: str) -> None:
    assert "| `bell_tone` | str | `low` | Which \\| tone. One of `low`, `high`. |" in page


def test_a_default_that_only_the_role_has_is_shown(page: str) -> None:
    assert "| `bell_times` | int | `3` | How often. |" in page


def test_parts_of_a_variable_have_tables_of_their_own(page: str) -> None:
    assert "### `bell_towers[]`" in page and "| `name` | str | required | Its name. |" in page
    assert "### `bell_towers[].ropes[]`" in page and "| `length` | int | none |" in page


def test_the_example_is_the_playbooks_own_and_ends_where_the_role_ends(page: str) -> None:
    assert "```yaml\n- role: bell\n  vars:\n    bell_towers: [{name: north}]\n```" in page


def test_other_ways_into_the_role_are_described(page: str) -> None:
    assert "## `tasks_from: silence`\n\nStops the bell.\n" in page
    assert "| `bell_seconds` | int | required | How long. |" in page


def test_tags_are_listed(page: str) -> None:
    assert "Tags: `bell_ring`." in page


def test_lines_of_a_list_stay_together_and_paragraphs_apart() -> None:
    assert prose(["One.", "- a", "- b", "Two."]) == "One.\n\n- a\n- b\n\nTwo."


def test_ansibles_markup_becomes_markdown() -> None:
    said = markdown("C(a (b)) is B(bold), see L(this, https://example.com/x); HTTP(S) stays")
    assert said == "`a (b)` is **bold**, see [this](https://example.com/x); HTTP(S) stays"


def test_no_variable_of_any_role_lacks_a_description() -> None:
    for path, text in role_pages(ROOT).items():
        empty = [line for line in text.splitlines() if line.startswith("| `") and "|  |" in line]
        assert not empty, f"{path.parent.name}: {empty}"
