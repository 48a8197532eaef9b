"""From one database host to three, and a dead one replaced: by the commands of the pages that say how.

In a lab of its own, `lab-grow`, because the cluster of the full lab has grown already. $BACKLINE_KEEP_LAB
leaves it up.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator

import pytest
import yaml

from backline.lab import files
from backline.lab.machine import podman
from tests import documented
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
        _without(LATER)
        run("fab", "provision", "--env", ENV, timeout=PROVISION_S)
        fleet = Fleet(ENV)
        _deploy(fleet)
        cluster.make_tables(fleet)
        yield fleet
    finally:
        if not os.environ.get("BACKLINE_KEEP_LAB"):
            run("inv", "lab.down", "--env", ENV)


def _without(hosts: tuple[str, ...]) -> None:
    """Takes hosts out of the inventory, as if nobody had made them."""
    path = files.INVENTORY / ENV / "hosts.yml"
    inventory = yaml.safe_load(path.read_text(encoding="utf-8"))
    everywhere = [inventory["all"], *inventory["all"]["children"].values()]
    for group in everywhere:
        for host in hosts:
            group["hosts"].pop(host, None)
    children = inventory["all"]["children"]
    inventory["all"]["children"] = {name: g for name, g in children.items() if g["hosts"]}
    path.write_text(yaml.safe_dump(inventory, sort_keys=False), encoding="utf-8")


def follow(page: str, section: str = "") -> str:
    """Types the page's commands, with this lab's name for the environment; what the last one said."""
    said = ""
    for command in documented.commands(page, section):
        words = shlex.split(command.replace("production", ENV))
        answer = run(*words, expect=None, timeout=PROVISION_S)
        # 2: a rehearsal found something to do.
        good = (0, 2) if "--check" in words else (0,)
        assert answer.code in good, f"{command}\n{answer.out[-4000:]}\n{answer.err[-4000:]}"
        said = answer.out
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
        podman("rm", "--force", "--volumes", "--time", "0", one.container(victim))
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
