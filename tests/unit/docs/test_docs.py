"""What the documentation says must be so."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

from backline.tasks.docs import pages
from backline.tasks.steps import ROOT
from tests.documented import commands


def flags(namespace: Any) -> dict[str, set[str]]:
    """Each task's flags, by the task's name and by its aliases."""
    found: dict[str, set[str]] = {}
    for name, aliases in namespace.task_names.items():
        words = list(inspect.signature(namespace[name].body).parameters)[1:]
        for known in (name, *aliases):
            found[known] = {f"--{word.replace('_', '-')}" for word in words} | {"--help"}
    return found


NAMESPACES = {
    program: flags(importlib.import_module(module).namespace)
    for program, module in (("fab", "fabfile"), ("inv", "tasks"))
}


def test_generated_pages_are_what_the_code_says() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `inv docs`"


def test_every_flag_and_every_task_explains_itself() -> None:
    for path, text in pages().items():
        assert not re.search(r"^\| `--[a-z-]+` \|  \|$", text, re.M), path.name
        assert not re.search(r"^## `.*`\n\n\n", text, re.M), path.name


def test_links_between_pages_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")]
    assert len(documents) > 10
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} → {target}"


PAGES = [
    *("README.md", "CONTRIBUTING.md"),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("roles/*/README.md")),
]
WORD = r"(?:^|[\s(`])(fab|inv) ([a-z][a-z0-9.-]*[a-z0-9])((?: [^`\n|;#]*)?)"


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_exist(page: str) -> None:
    """Ours that stand in a block or in backticks: the task, and each of its flags."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = [*commands(page), *re.findall(r"`((?:fab|inv) [^`]+)`", text)]
    for line in shown:
        for program, name, rest in re.findall(WORD, line):
            task = NAMESPACES[program].get(name)
            assert task, f"{page}: there is no `{program} {name}`"
            for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", rest):
                assert flag in task, f"{page}: `{program} {name}` has no {flag}"
