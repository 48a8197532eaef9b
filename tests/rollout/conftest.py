"""The fleet for tests of rollouts: lab `lab-chaos`, or one that is up already (`--env`)."""

import signal
from collections.abc import Iterator

import pytest

from tests.chaos.conftest import fleet, made, pytest_addoption
from tests.rollout.runs import STARTED

__all__ = ["fleet", "made", "pytest_addoption"]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What a failed test left running is ended."""
    yield
    while STARTED:
        left = STARTED.pop()
        if left.process.poll() is None:
            left.signal(signal.SIGKILL)
            left.process.wait()
