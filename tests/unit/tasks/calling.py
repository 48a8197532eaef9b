"""A task called as `fab` would, and what it printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from invoke.context import Context

Captured = pytest.CaptureFixture[str]


def call(task: Any, /, *words: str, **flags: Any) -> int:
    """Runs a task in the environment `stage`; returns the exit code."""
    try:
        task(Context(), *words, **{"env": "stage", **flags})
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def lines(capsys: Captured) -> list[Any]:
    """The objects of `--json` so far."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def records(capsys: Captured) -> list[dict[str, Any]]:
    """`lines`, each of the schema that is documented."""
    found = lines(capsys)
    assert all(record["schema_version"] == 1 for record in found)
    return found
