"""What the documentation says must be so."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest

import fabfile
from backline.tasks.docs import pages
from backline.tasks.steps import ROOT
from tests.documented import FENCE, ours, refusal


def test_generated_pages_are_what_the_code_says() -> None:
    for path, text in pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `inv docs`"


def test_every_flag_and_every_task_explains_itself() -> None:
    for path, text in pages().items():
        assert not re.search(r"^\| `--[a-z-]+` \|  \|$", text, re.M), path.name
        assert not re.search(r"^## `.*`\n\n\n", text, re.M), path.name


@pytest.mark.parametrize("name", fabfile.namespace.task_names)
def test_the_help_of_a_task_shows_how_it_is_typed(name: str) -> None:
    """`fab --help TASK` at 3 a.m.: one line of what it does, and a command that works as it stands."""
    text = inspect.cleandoc(fabfile.namespace[name].__doc__ or "")
    first, _, examples = text.partition("\nExamples:\n")
    assert len(first.splitlines()[0]) <= 110
    typed = ours(f"```\n{examples}\n```\n")
    assert typed, f"fab {name} has no examples"
    names = {name, *fabfile.namespace.task_names[name]}
    assert {words[1] for words in typed} <= names
    assert not [words for words in typed if refusal(words)]


def slug(heading: str) -> str:
    """A heading's anchor, as forges make it."""
    words = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading).lower())
    return words.strip().replace(" ", "-")


def links(page: Path) -> list[tuple[str, str]]:
    """Where a page's links to other pages lead: (path, anchor)."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text)
    return [(path, anchor) for path, anchor in found if path or anchor]


def test_links_between_pages_lead_somewhere() -> None:
    assert len(PAGES) > 100
    for page in PAGES:
        for path, anchor in links(ROOT / page):
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), f"{page} → {path}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
                assert anchor in map(slug, headings), f"{page} → {path}#{anchor}"


def test_every_page_is_found_from_an_index() -> None:
    """The README leads to the documentation's index, and that one, or the runbooks', to every page."""
    indexes = [ROOT / "docs/README.md", ROOT / "docs/runbooks/README.md"]
    listed = {
        (index.parent / path).resolve() for index in indexes for path, _ in links(index) if path
    }
    assert indexes[1] in listed
    assert indexes[0] in {(ROOT / path).resolve() for path, _ in links(ROOT / "README.md")}
    pages = {*ROOT.glob("docs/**/*.md")} - {indexes[0]}
    assert not [str(page.relative_to(ROOT)) for page in pages - listed]


PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("roles/*/README.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_are_taken_by_the_program(page: str) -> None:
    """By the parsers of `fab` and `inv` themselves: the task, each flag, each value it needs."""
    for words in ours((ROOT / page).read_text(encoding="utf-8")):
        assert not refusal(words), f"{page}: `{shlex.join(words)}`: {refusal(words)}"


@pytest.mark.parametrize("page", PAGES)
def test_hosts_are_upgraded_by_the_command_that_is_there_for_it(page: str) -> None:
    """`fab patch` asks on which hosts, and confirms their number; the bare playbook takes nearly all."""
    for words in ours((ROOT / page).read_text(encoding="utf-8")):
        assert not {"provision", "patch"} <= set(words), f"{page}: `{shlex.join(words)}`"


def test_the_readme_shows_how_hosts_are_upgraded_restarted_and_rebooted() -> None:
    shown = {words[1] for words in ours((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"patch", "restart", "reboot", "drift", "provision"} <= shown


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("fab stauts --env lab", "stauts"),
        ("fab status --envv lab", "--envv"),
        ("fab status --env", "needed value"),
        ("fab run --on all", "command"),
        ("fab run 'x' --on all --timeout soon", "takes a whole number, not 'soon'"),
        ("fab run echo rollback --on all", "2 tasks"),
        ("fab status --env ''", "given nothing"),
        ("fab run 'x' --env lab", "without --on"),
        ("fab restart --env lab --service nginx", "without --on"),
        ("fab deploy --env lab", "without --release"),
        ("fab status streaming", "streaming"),
        ("inv lab.upp", "lab.upp"),
    ],
)
def test_a_command_that_cannot_work_is_noticed(line: str, why: str) -> None:
    """Each of these is what a page would say after a typo, or after a task changed under it."""
    for page in (f"```console\n$ {line}\n```\n", f"```\n{line} | jq .\n```\n", f"so `{line}`"):
        (words,) = ours(page)
        assert why in refusal(words), page


def test_commands_are_found_where_readers_find_them() -> None:
    page = (
        "Then `fab lock` and `journalctl -u x`.\n```console\n$ export A=b; fab logs --env E \\\n"
        "    --follow   # until Ctrl-C\n  stream1 is up\n$ fab status --json | jq 'fab x'\n```\n"
        "```yaml\nfab: nonsense --here\n```\n"
    )
    assert ours(page) == [
        ["fab", "logs", "--env", "E", "--follow"],
        ["fab", "status", "--json"],
        ["fab", "lock"],
    ]
