"""A role's README, made from what the role says of itself in meta/argument_specs.yml.

The spec's `description` is the prose (Markdown, a list of paragraphs; C(x) and the like become
code); the variables, their types and defaults are tables; the example is the part of a playbook
that uses the role, as it stands there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MADE = "<!-- Made by `inv docs` from meta/argument_specs.yml: edit it there. -->"
CODE = re.compile(r"\b[COVMPI]\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
BOLD = re.compile(r"\bB\(([^()]*)\)")
LINK = re.compile(r"\bL\(([^(),]*),\s*([^()]*)\)")
BULLET = re.compile(r"([-*|]|\d+\.) ?")
LONG = 72


def role_pages(root: Path) -> dict[Path, str]:
    """The README of every role of the checkout at `root` with the text it should have."""
    folders = sorted(path.parents[1] for path in root.glob("roles/*/meta/argument_specs.yml"))
    return {folder / "README.md": role_page(root, folder) for folder in folders}


def role_page(root: Path, folder: Path) -> str:
    """The README of the role in `folder`."""
    entries = _load(folder / "meta" / "argument_specs.yml")["argument_specs"]
    defaults = _load(folder / "defaults" / "main.yml")
    main = entries["main"]
    parts = [
        f"# {folder.name}",
        MADE,
        f"{markdown(main['short_description']).rstrip('.')}.",
        prose(main.get("description", [])),
        _example(root, folder.name),
        _variables(main.get("options", {}), defaults, "## Variables"),
        *(_entry_point(name, entry, defaults) for name, entry in entries.items() if name != "main"),
        _tags(folder),
        _test(folder),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(text: object) -> str:
    """Ansible's markup as Markdown: C(x), V(x), … are code, B(x) is bold, L(text, url) a link."""
    found = CODE.sub(lambda match: f"`{match[1]}`", str(text))
    found = BOLD.sub(lambda match: f"**{match[1]}**", found)
    return LINK.sub(lambda match: f"[{match[1]}]({match[2]})", found)


def prose(description: str | list[str]) -> str:
    """Paragraphs with an empty line between them; items that are lines of one list stay together."""
    paragraphs = [description] if isinstance(description, str) else description
    text = ""
    for paragraph in (markdown(entry).strip() for entry in paragraphs):
        joined = text and BULLET.match(paragraph) and BULLET.match(text.splitlines()[-1])
        text += ("\n" if joined else "\n\n" if text else "") + paragraph
    return text


def _entry_point(name: str, entry: dict[str, Any], defaults: dict[str, Any]) -> str:
    """A second way into the role, as a playbook takes it by `tasks_from`."""
    return "\n\n".join(
        part
        for part in (
            f"## `tasks_from: {name}`",
            f"{markdown(entry['short_description']).rstrip('.')}.",
            prose(entry.get("description", [])),
            _variables(entry.get("options", {}), defaults, ""),
        )
        if part
    )


def _variables(options: dict[str, Any], defaults: dict[str, Any], title: str) -> str:
    """The table of variables, and one more for each variable whose value has parts of its own."""
    if not options:
        return ""
    tables = [*([title] if title else []), _table(options, defaults)]
    for path, entry in _nested(options):
        tables += [f"### `{path}`", _table(entry, {})]
    return "\n\n".join(tables)


def _nested(options: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        if "options" in option:
            path = f"{above}{name}" + ("[]" if option.get("elements") == "dict" else "")
            yield path, option["options"]
            yield from _nested(option["options"], f"{path}.")


def _table(options: dict[str, Any], defaults: dict[str, Any]) -> str:
    rows = ["| variable | type | default | what it is |", "|---|---|---|---|"]
    for name, option in options.items():
        cells = (f"`{name}`", _type(option), _default(name, option, defaults), _what(option))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _type(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def _default(name: str, option: dict[str, Any], defaults: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default", defaults.get(name))
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text == "":
        return "empty"
    text = " ".join(text.split())
    return f"`{text}`" if len(text) <= LONG else "see [defaults/main.yml](defaults/main.yml)"


def _what(option: dict[str, Any]) -> str:
    description = option.get("description", "")
    lines = [description] if isinstance(description, str) else description
    text = " ".join(" ".join(markdown(line).split()) for line in lines)
    choices = ", ".join(f"`{choice}`" for choice in option.get("choices", []))
    return f"{text} One of {choices}." if choices else text


def _example(root: Path, role: str) -> str:
    """How a playbook uses the role, word for word; nothing when none does."""
    for playbook in sorted(root.glob("playbooks/*.yml")):
        text = playbook.read_text(encoding="utf-8")
        use = _use(yaml.compose(text, Loader=yaml.SafeLoader), role)
        if use is None:
            continue
        lines = text.splitlines()[use.start_mark.line : use.end_mark.line]
        while not lines[-1].strip() or lines[-1].lstrip().startswith("#"):
            lines.pop()
        indent = use.start_mark.column - 2
        body = "\n".join(line[indent:] for line in lines)
        name = playbook.name
        return (
            f"## Use\n\nAs [playbooks/{name}](../../playbooks/{name}) does:\n\n```yaml\n{body}\n```"
        )
    return ""


def _use(node: yaml.Node | None, role: str) -> yaml.Node | None:
    """The entry of a play's `roles` for this role, or the task that includes it."""
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            found = _use(entry, role)
            if found is not None:
                return found
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "role" and value.value == role:
                return node
            if str(key.value).endswith(("include_role", "import_role")) and any(
                inner.value == "name" and named.value == role for inner, named in value.value
            ):
                return node
            found = _use(value, role)
            if found is not None:
                return found
    return None


def _tags(folder: Path) -> str:
    tags: list[str] = []
    for task in _load(folder / "tasks" / "main.yml") or []:
        tags += [tag for tag in task.get("tags", []) if tag not in tags and tag != folder.name]
    return f"Tags: {', '.join(f'`{tag}`' for tag in tags)}." if tags else ""


def _test(folder: Path) -> str:
    if not (folder / "molecule").is_dir():
        return ""
    return f"Try it on hosts of its own: `inv test.roles --only {folder.name}`."


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
