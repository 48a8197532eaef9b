"""What a release changes: two release.json documents side by side. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WHEELS = "wheelhouse/"
PLAIN = ("version", "commit", "python")
UNITS = (("kB", 1e3), ("MB", 1e6), ("GB", 1e9))
Document = Mapping[str, Any]
_WHEEL = re.compile(r"(?P<name>[^/]+?)-(?P<version>\d[^-]*)(-[^/]*)?\.whl$")


@dataclass(frozen=True)
class Change:
    """One thing that differs; `before` or `after` is empty for what is new or gone."""

    what: str
    before: str
    after: str

    @property
    def kind(self) -> str:
        """added, removed or changed."""
        return "added" if not self.before else "removed" if not self.after else "changed"


@dataclass(frozen=True)
class Changes:
    """What differs, by what it is. Sizes in words."""

    facts: tuple[Change, ...]
    packages: tuple[Change, ...]
    files: tuple[Change, ...]


def between(before: Document, after: Document) -> Changes:
    """What `after` has that `before` had not, and the other way round."""
    facts = [Change(key, _text(before.get(key)), _text(after.get(key))) for key in PLAIN]
    for phase in ("expand", "contract"):
        old, new = (_commands(document, phase) for document in (before, after))
        facts.append(Change(f"migrations: {phase}", old, new))
    names = sorted(before.get("processes", {}).keys() | after.get("processes", {}).keys())
    for name in names:
        old, new = (_process(document, name) for document in (before, after))
        facts.append(Change(f"process {name}", old, new))
    return Changes(
        tuple(change for change in facts if change.before != change.after),
        _differ(_packages(before), _packages(after)),
        tuple(_files(before.get("files", {}), after.get("files", {}))),
    )


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 1000:
        return f"{count} B"
    unit, by = next(pair for pair in UNITS if count < 1000 * pair[1] or pair == UNITS[-1])
    return f"{count / by:.1f} {unit}"


def _files(before: Document, after: Document) -> list[Change]:
    found = []
    for path in sorted(before.keys() | after.keys()):
        if path.startswith(WHEELS) or before.get(path) == after.get(path):
            continue
        old, new = (int(d[path]["size"]) if path in d else None for d in (before, after))
        grown = f" ({new - old:+,} B)" if old is not None and new is not None else ""
        was, now = ("" if count is None else size(count) for count in (old, new))
        found.append(Change(path, was, now + grown))
    return found


def _packages(document: Document) -> dict[str, str]:
    found = {}
    for path in document.get("files", {}):
        match = _WHEEL.match(path.removeprefix(WHEELS)) if path.startswith(WHEELS) else None
        if match:
            found[match["name"]] = match["version"]
    return found


def _differ(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(name, before.get(name, ""), after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _commands(document: Document, phase: str) -> str:
    commands = (document.get("migrations") or {}).get(phase) or ()
    return "; ".join(" ".join(map(str, command)) for command in commands)


def _process(document: Document, name: str) -> str:
    process = document.get("processes", {}).get(name)
    return " ".join(map(str, process["command"])) if process else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)
