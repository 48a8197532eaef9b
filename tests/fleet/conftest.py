"""A fleet of its own for the tests: lab `lab-test`, beside the one a person may have up."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.live import Fleet, run

ENV = "lab-test"


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Hosts made from nothing and removed at the end; with BACKLINE_KEEP_LAB those that are up."""
    if "BACKLINE_KEEP_LAB" not in os.environ:
        run("inv", "lab.down", "--env", ENV)
    run("inv", "lab.up", "--env", ENV)
    yield Fleet(ENV)
    if "BACKLINE_KEEP_LAB" not in os.environ:
        run("inv", "lab.down", "--env", ENV)
