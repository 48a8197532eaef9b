"""Roles' own Python, loaded as Ansible does: by path."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROLES = Path(__file__).parents[3] / "roles"


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    """Return a function that loads a Python file of a role."""

    def load_file(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROLES / path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_file
