"""The runbooks' first looks, as commands that a lab can be asked: they change nothing, and are many."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from backline.tasks.steps import ROOT
from tests.documented import FENCE, SPOKEN, ours, shown
from tests.documented import STANDS_FOR as PLACEHOLDER

FOLDER = ROOT / "docs/runbooks"
INDEX = FOLDER / "README.md"
EMERGENCIES = sorted(FOLDER.glob("emergency-*.md"))
PAGES = sorted({*FOLDER.glob("*.md")} - {*EMERGENCIES, INDEX})
LOOKS = {
    "status", "db.status", "broker.status", "logs", "releases", "lock", "audit", "audit.verify",
    "certs", "hosts.list", "doctor", "db.psql", "run", "db.slow", "db.locks", "db.vacuum",
    "workers.status", "workers.dead", "maintenance.status",
}  # fmt: skip
OF_DATABASE = re.compile(
    r"etcd|patroni|pgbouncer|postgres|replica|slot|wal|transaction|deadlock|connections"
)
"""Pages whose HOST is a database host."""
STEPS = "Commands, in order"
NEVER = ("What you see", "Do not")
"""Sections of an emergency's page that tell nobody to type anything."""
STAND_INS = {
    "ansible-vault edit": "it opens an editor, and a lab keeps its secrets in the clear: the test "
    "writes the file that the person would have saved",
    "fab run 'certbot renew": "an edge of the lab has no ACME authority to ask; roles/edge's own "
    "test renews from one",
}
"""Commands of emergencies that no lab can run, by how they begin, and what is done in their place."""


def sections(page: Path) -> dict[str, str]:
    """A page's sections by their titles."""
    parts = re.split(r"^## (.+)\n", page.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parts(page: Path) -> dict[str, list[str]]:
    """What an emergency's page has its reader type: {title of a section or number of a step: commands}."""
    found: dict[str, list[str]] = {}
    for title, text in sections(page).items():
        if title == STEPS:
            pieces = re.split(r"^(\d)\. ", text, flags=re.M)[1:]
            found |= {n: shown(step) for n, step in zip(pieces[::2], pieces[1::2], strict=True)}
        elif title not in NEVER:
            found[title] = shown(text)
    return {name: commands for name, commands in found.items() if commands}


def chosen(page: Path, part: str) -> list[str]:
    """The commands of a part, or the one that `part` numbers: `3.2` is the second one of step 3."""
    name, _, number = part.partition(".")
    commands = parts(page)[name]
    return [commands[int(number) - 1]] if number else commands


def stand_in(command: str) -> str:
    """How the command begins, if something else is done in its place; else nothing."""
    return next((begin for begin in STAND_INS if command.startswith(begin)), "")


def typed(text: str) -> list[list[str]]:
    """The commands of a text's blocks, in their order: not those that a sentence names."""
    blocks = [f"```{language}\n{block}```\n" for language, block in FENCE.findall(text)]
    return [words for block in blocks for words in ours(block)]


def looks(names: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """{command: page} of every first look at a fleet whose hosts, and so on, are `names`; each once.

    Left out is what needs somebody whom this fleet does not have. `DB` is the HOST of some pages.
    """
    found: dict[tuple[str, ...], str] = {}
    for page in (*EMERGENCIES, *PAGES):
        parts = sections(page)
        known = {**names, "HOST": names["DB"]} if OF_DATABASE.search(page.stem) else names
        for program, task, *words in typed(parts.get("First look") or parts["First command"]):
            put = [_filled(word, known) for word in words]
            left = {name for word in put for name in PLACEHOLDER.findall(word)} - SPOKEN
            if program == "fab" and task in LOOKS and not left:
                found.setdefault((program, task, *put), page.stem)
    return found


def _filled(word: str, names: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: names.get(match[0], match[0]), word)
