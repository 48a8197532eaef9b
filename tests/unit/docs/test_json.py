"""What `--json` prints is described: every event that the code has a name for, and every field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import fabfile
from backline.rollout.judge import judge
from backline.rollout.plan import Plan, Shipment, Step
from backline.rollout.strategy import Strategy
from backline.tasks.docs import REFERENCE
from backline.tasks.steps import ROOT

PAGE = (REFERENCE / "json.md").read_text(encoding="utf-8")
PLACES = ("console", "operations", "rollout", "tasks")
APART = {"lab.py", "bench.py", "fanout.py", "release.py", "audit.py"}
"""Of `backline/tasks`: what contributors type (`inv`), and its own JSON."""
CALLS = {"Event", "told", "_json", "_tell", "tell", "_Teller", "patient", "_verb"}
"""Functions that are handed the name of an event: `Event("lease")`, `self._json("summary", …)`."""
SILENT = {"progress"}
"""Told while a run goes, and neither printed nor kept."""
NAME = re.compile(r"[a-z][a-z0-9_]*")


def modules() -> list[tuple[Path, ast.Module]]:
    paths = [path for place in PLACES for path in (ROOT / "backline" / place).rglob("*.py")]
    return [
        (path, ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(paths)
        if not (path.parent.name == "tasks" and path.name in APART)
    ]


def called(node: ast.expr) -> str:
    """The name of what is called: `Event`, `_json`; `_Teller` for `_Teller(json)(…)`."""
    if isinstance(node, ast.Call):
        return called(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def texts(node: ast.AST) -> set[str]:
    return {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


def keys(node: ast.Dict) -> set[str]:
    return {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}


def tells(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that are handed the name of an event."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or called(node.func) not in CALLS:
            continue
        if not any(texts(argument) & SILENT for argument in node.args[:1]):
            yield node


def events(tree: ast.Module) -> set[str]:
    """Every name of an event in a file."""
    found: set[str] = set()
    for call in tells(tree):
        for argument in call.args[:3]:
            found |= set() if isinstance(argument, ast.Dict | ast.JoinedStr) else texts(argument)
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event":
                    found |= texts(value)
    return {name for name in found if NAME.fullmatch(name)}


def fields(path: Path, tree: ast.Module) -> set[str]:
    """The fields of what a file prints: of lines, of `as_json`, and of what an event is told with."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and "schema_version" in keys(node):
            found |= keys(node)
        if isinstance(node, ast.ClassDef) and "vars(self)" in ast.unparse(node):
            found |= {
                part.target.id
                for part in node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            }
        if isinstance(node, ast.FunctionDef) and node.name in ("as_json", "as_data"):
            found |= {
                key for part in ast.walk(node) if isinstance(part, ast.Dict) for key in keys(part)
            }
    for call in tells(tree):
        found |= {
            key for part in ast.walk(call) if isinstance(part, ast.Dict) for key in keys(part)
        }
        if called(call.func) == "_json":
            found |= {word.arg for word in call.keywords if word.arg}
    if path.name == "report.py" and path.parent.name == "rollout":
        found |= {
            key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in keys(node)
        }
    return {name for name in found if NAME.fullmatch(name)}


def described() -> set[str]:
    """Events that the page has a row or a sentence for."""
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", PAGE, re.M)
    named = {name for cell in rows for name in re.findall(r"`([a-z_]+)`", cell)}
    return named | set(re.findall(r'"event": "([a-z_]+)"', PAGE))


def test_every_event_is_described() -> None:
    found = {name: path.name for path, tree in modules() for name in events(tree)}
    some = {"lease", "verdict", "stop", "hold", "summary", "result", "host_key", "verified", "told"}
    assert some <= set(found), "the code is written otherwise than this test reads it"
    missing = {name: where for name, where in found.items() if name not in described()}
    assert not missing, f"not in docs/reference/json.md: {missing}"


def test_every_field_is_described() -> None:
    found = {name: path.name for path, tree in modules() for name in fields(path, tree)}
    for model in (Plan, Step, Shipment, Strategy):
        found |= {field.name: model.__name__ for field in dataclasses.fields(model)}
    found |= dict.fromkeys(judge([], [], "new", []).numbers, "judge.py")
    some = {"ends_in", "p99_ms", "complete", "twin", "connections", "shipments"}
    assert some <= set(found), "the code is written otherwise than this test reads it"
    missing = {name: where for name, where in found.items() if f"`{name}`" not in PAGE}
    missing = {name: where for name, where in missing.items() if f'"{name}"' not in PAGE}
    assert not missing, f"not in docs/reference/json.md: {missing}"


def test_every_task_that_has_json_has_its_section() -> None:
    headings = " ".join(re.findall(r"^## (.+)$", PAGE, re.M))
    for name in fabfile.namespace.task_names:
        if "json" in inspect.signature(fabfile.namespace[name].body).parameters:
            assert f"`fab {name}`" in headings, f"fab {name} --json is not described"


def test_no_section_is_of_a_task_that_is_gone() -> None:
    named = re.findall(r"`fab ([a-z.]+)`", " ".join(re.findall(r"^## (.+)$", PAGE, re.M)))
    assert len(named) == len(set(named)) > 25
    assert set(named) <= set(fabfile.namespace.task_names)
