"""From one database host to three, and a dead one replaced: by the commands of the pages that say how.

In a lab of its own, `lab-grow`, because the cluster of the full lab has grown already. $BACKLINE_KEEP_LAB
leaves it up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from backline.lab import files
from backline.lab.machine import remove
from tests import documented, reading
from tests.chaos.conftest import _deploy
from tests.data import cluster
from tests.data.trial import Trial
from tests.live import Fleet, run

ENV = "lab-grow"
LATER = ("db2", "db3")
GROW = "docs/how-to/grow-the-database.md"
REPLACE = "docs/how-to/replace-a-database-host.md"
PROVISION_S = 3000.0


@pytest.fixture(scope="module")
def one() -> Iterator[Fleet]:
    """A fleet with one database host and two that are no part of it yet, and an application."""
    up = ("inv", "lab.up", "--env", ENV, "--size", "data")
    run("inv", "lab.down", "--env", ENV)
    try:
        run(*up)
        fleet = Fleet(ENV)
        fleet.leave_out(*LATER)
        run("fab", "provision", "--env", ENV, timeout=PROVISION_S)
        _deploy(fleet)
        cluster.make_tables(fleet)
        yield fleet
    finally:
        if not os.environ.get("BACKLINE_KEEP_LAB"):
            run("inv", "lab.down", "--env", ENV)


def follow(page: str, section: str = "") -> str:
    """Types the page's commands, with this lab's name for the environment; what the last one said."""
    said = ""
    for command in documented.commands(page, section):
        said = reading.typed(documented.filled(command, {"production": ENV})).out
    return said


def test_a_database_of_one_grows_to_three(one: Fleet) -> None:
    with Trial(one, "grown from one host to three", first=["db1"]) as trial:
        files.write_inventory(files.require(ENV))
        said = follow(GROW)
        cluster.settled(one)
        trial.back(30)
    assert "Sync Standby" in said and said.count("streaming") >= 2, said
    for host in LATER:
        assert cluster.sql(one, "SELECT count(*) > 0 FROM fault_rows", host) == ["t"]
    trial.verdict.safe()
    trial.verdict.silent()


def test_a_dead_host_is_replaced(one: Fleet) -> None:
    with Trial(one, "a dead host replaced") as trial:
        victim = cluster.standby(one)
        remove(one.container(victim))
        trial.back(60)
        run("inv", "lab.up", "--env", ENV, "--size", "data")
        # Built anew under its old name and address: the inventory stays as it is.
        follow(REPLACE, "4. ")
        took = cluster.settled(one)
        time.sleep(1)
        trial.back(30)
    print(f"{victim} is a member again, in step {took:.0f} s after the last command")
    assert "Sync Standby" in follow(REPLACE, "5. ")
    assert cluster.sql(one, "SELECT count(*) > 0 FROM fault_rows", victim) == ["t"]
    trial.verdict.safe()
    trial.verdict.retried()
