"""The full lab for faults of the data tier: `lab-chaos`, or one that is up already (`--env`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from backline.errors import BacklineError
from backline.lab import machine
from tests.chaos.conftest import fleet, made, pytest_addoption
from tests.data import cluster, faults, remote, summary, trial
from tests.live import Fleet

__all__ = ["fleet", "made", "pytest_addoption"]


@pytest.fixture(scope="session", autouse=True)
def podman_as_the_lab_has_it() -> None:
    """The settings that the lab found for this machine, also without `inv`."""
    machine.ensure_podman(print)


@pytest.fixture(scope="module")
def data(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with what writers and watchers write into, which is gone afterwards."""
    assert len(fleet.hosts("database")) == 3, "use the full lab: inv lab.up --size full"
    cluster.settled(fleet)
    cluster.make_tables(fleet)
    yield fleet
    cluster.drop_tables(fleet)
    for host in [
        host for group in ("database", "streaming", "worker") for host in fleet.hosts(group)
    ]:
        with contextlib.suppress(BacklineError):
            remote.remove(fleet, host)


@pytest.fixture
def whole(data: Fleet) -> Iterator[Fleet]:
    """The fleet before a fault: in step. Afterwards, too, whatever became of the test."""
    cluster.settled(data)
    yield data
    faults.mend(data)
    cluster.settled(data)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured, at the end of it all."""
    folder = trial.RESULTS / trial.STARTED
    if folder.is_dir():
        terminalreporter.section("what the recordings say")
        terminalreporter.write_line(summary.publish(folder))
