"""The fleet in memory of the rollout's tests serves the tasks' tests too; output nobody reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from backline import stdout

sys.path.insert(0, str(Path(__file__).parents[1] / "rollout"))


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """The writing end of a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w", buffering=1)
    yield file
    # What is still in its buffer goes where nobody minds.
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    file.close()


@pytest.fixture
def unheard(unread: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `fab` once hosts are being changed, and nobody reads either stream."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, unread)
    monkeypatch.setattr(stdout, "_changing", [])
    stdout.prepare()
    stdout.go_on()
