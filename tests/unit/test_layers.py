"""Imports point one way: tasks → domain → transport, and the domain only decides."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "backline"
BASE = {"errors", "places", "stdout", "wording"}
DOMAIN = {
    *("audit", "inventory", "inventory_loader", "operations", "provision", "release"),
    *("rollout", "selection"),
}
LAYERS: dict[str, set[str]] = {
    # hostctl: the controller's journal is the same chain as the hosts'.
    "transport": BASE | {"transport", "hostctl"},
    "console": BASE | {"console", "selection", "operations", "rollout", "transport"},
    **{name: BASE | DOMAIN | {"transport"} for name in DOMAIN},
}
FORBIDDEN = {"fabric", "invoke", "paramiko", "subprocess", "rich", "socket"}
PORT = {"transport.port", "transport.local"}


def modules(name: str) -> list[Path]:
    place = PACKAGE / name
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, also within functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_lies_below_it(layer: str) -> None:
    for path in modules(layer):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("backline.")}
        assert ours <= LAYERS[layer], f"{path} imports {ours - LAYERS[layer]}"


@pytest.mark.parametrize("layer", sorted(DOMAIN))
def test_the_domain_does_not_reach_out(layer: str) -> None:
    for path in modules(layer):
        outside = {name.split(".")[0] for name in imports(path)}
        assert not outside & (FORBIDDEN - _excused(path)), f"{path}: {outside & FORBIDDEN}"
        inside = {
            ".".join(name.split(".")[1:3])
            for name in imports(path)
            if name.startswith("backline.transport.")
        }
        assert inside <= PORT, f"{path} imports {inside - PORT}"


@pytest.mark.parametrize("layer", sorted(DOMAIN))
def test_the_domain_neither_prints_nor_sleeps(layer: str) -> None:
    for path in modules(layer):
        if path.name == "inventory_loader.py":  # a program: printing is its answer
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input"), f"{path}:{node.lineno}"
        assert "time" not in imports(path), f"{path} imports time: take a clock"


def test_fabfile_imports_task_collections_and_nothing_else() -> None:
    found = {name for name in imports(PACKAGE.parent / "fabfile.py") if "." in name}
    assert all(name.startswith(("backline.tasks", "invoke.", "__future__")) for name in found)


def test_listing_tasks_imports_nothing_heavy() -> None:
    """`fab --list` and shell completion must not wait for Ansible, pydantic or rich, nor for the domain."""
    import subprocess
    import sys

    script = "import sys, fabfile; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    heavy = {"ansible", "pydantic", "rich", "ClusterShell", "paramiko", "fabric"}
    assert not {name.split(".")[0] for name in loaded} & heavy
    below = re.compile(r"backline\.(operations|rollout|transport|release|console)\.\w+(\.\w+)?$")
    assert {name for name in loaded if below.match(name)} <= {
        *("backline.operations.logs", "backline.operations.logs.wanted")
    }


@pytest.mark.parametrize("told", ["", "1"])
def test_bytecode_is_kept_unless_somebody_told_python_not_to(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """invoke turns it off before it loads the tasks: each run of `fab` would compile all of them."""
    import subprocess
    import sys

    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", told)
    script = "import sys; sys.dont_write_bytecode = True; import backline.tasks.pipe; "
    script += "print(sys.dont_write_bytecode)"
    argv = [sys.executable, "-c", script]
    said = subprocess.check_output(argv, cwd=PACKAGE.parent, text=True)
    assert said.strip() == str(bool(told))


def _excused(path: Path) -> set[str]:
    """Packing pipes a tar into zstd: it needs the constants of subprocess, not its calls."""
    return {"subprocess"} if path.name == "pack.py" else set()
