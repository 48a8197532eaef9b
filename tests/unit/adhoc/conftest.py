"""A fleet of real sshds on loopback addresses, as an environment of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop import COUNT, Place, write  # noqa: E402

from tests.sshd import loopback  # noqa: E402


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("root")
    programs = tmp_path_factory.mktemp("programs")
    path = f"PATH={programs}:/usr/local/bin:/usr/bin:/bin"
    with loopback(tmp_path_factory.mktemp("sshd"), COUNT, path) as sshd:
        write(root, sshd)
        environment = {**os.environ, "BACKLINE_ROOT": str(root), "BACKLINE_ENV": "loop"}
        yield Place(root, sshd, {**environment, "NO_COLOR": "1"}, programs)
