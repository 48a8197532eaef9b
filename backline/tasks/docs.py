"""The pages that are generated from the code: the reference, and the roles' READMEs."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.command import command, say
from backline.tasks.steps import ROOT

REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- Made by `inv docs` from the code: edit it there. -->\n\n"


def pages() -> dict[Path, str]:
    """Every generated page with the text it should have."""
    from backline.role_pages import role_pages

    return {
        **role_pages(ROOT),
        REFERENCE / "backline-toml.md": _backline_toml(),
        REFERENCE / "fab.md": _tasks("fabfile", "fab", "what operators type"),
        REFERENCE / "inv.md": _tasks("tasks", "inv", "what contributors and CI type"),
    }


@command(help={"check": "write nothing, fail when a page is not what the code says"})
def docs(c: Context, check: bool = False) -> None:
    """Write the pages made from the code: backline.toml, the tasks of fab and inv, roles' READMEs."""
    stale = {
        path: text
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    if check and stale:
        raise BacklineError(
            f"out of date: {', '.join(str(path.relative_to(ROOT)) for path in stale)}",
            hint="inv docs",
        )
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        say(f"wrote {path.relative_to(ROOT)}")


def _backline_toml() -> str:
    from backline.release import manifest

    example = (ROOT / "examples/jukebox/backline.toml").read_text(encoding="utf-8")
    parts = [
        "# backline.toml\n",
        MADE,
        "What an application says of itself, beside its code. Unknown keys are refused; errors name "
        "the line.\nThis is the sample application's:\n",
        f"```toml\n{example}```\n",
    ]
    for title, model in (
        ("The app", manifest.AppManifest),
        ("`[processes.NAME]`", manifest.Process),
        ("`[processes.NAME.health]`", manifest.Health),
        ("`[migrations]`", manifest.Migrations),
        ("`[probe]`", manifest.Probe),
    ):
        parts.append(
            f"## {title}\n\n| key | default | what it is |\n|---|---|---|\n" + _rows(model)
        )
    return "\n".join(parts)


def _rows(model: Any) -> str:
    rows = []
    for name, entry in model.model_fields.items():
        nested = name in {"processes", "migrations", "health", "probe"}
        default = "required" if entry.is_required() else f"`{entry.default!r}`"
        if not entry.is_required() and (nested or entry.default is None):
            default = "none"
        rows.append(f"| `{name}` | {default} | {entry.description} |\n")
    return "".join(rows)


def _tasks(module: str, program: str, who: str) -> str:
    namespace: Collection = importlib.import_module(module).namespace
    parts = [f"# {program}: {who}\n", MADE.rstrip() + "\n"]
    for name in sorted(namespace.task_names):
        found = namespace[name]
        parts.append(f"## `{program} {name}`\n\n{_description(found.__doc__ or '')}\n")
        flags = [
            f"| `--{flag.replace('_', '-')}` | {found.flag_help.get(flag, '')} |\n"
            for flag in list(inspect.signature(found.body).parameters)[1:]
        ]
        if flags:
            parts.append("| flag | what it does |\n|---|---|\n" + "".join(flags))
    return "\n".join(parts)


def _description(docstring: str) -> str:
    """A docstring as Markdown: its paragraphs, and its examples as a block."""
    text, _, examples = inspect.cleandoc(docstring).partition("\nExamples:\n")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    if examples:
        lines = [f"$ {line.strip()}" for line in examples.splitlines() if line.strip()]
        paragraphs.append("\n".join(["```console", *lines, "```"]))
    return "\n\n".join(paragraphs)
