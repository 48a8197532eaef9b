"""What the documentation says must be so."""

from __future__ import annotations

import re

from backline.tasks.docs import pages
from backline.tasks.steps import ROOT


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


def test_commands_in_the_readme_exist() -> None:
    import importlib

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for program, module in (("fab", "fabfile"), ("inv", "tasks")):
        namespace = importlib.import_module(module).namespace
        known = set(namespace.task_names)
        known |= {alias for aliases in namespace.task_names.values() for alias in aliases}
        for name in re.findall(rf"`{program} ([a-z][a-z.]+)", readme):
            assert name in known, f"README: {program} {name}"
