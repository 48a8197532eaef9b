"""Which hosts the broker role takes for one cluster, and which it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
PATH = "broker/filter_plugins/broker_cluster.py"
THREE = ["b1", "b2", "b3"]


def host(name: str, *knows: str, version: str = "3.10.8-1.1", node: str = "") -> dict[str, str]:
    """A host as preflight finds it: with the data of a node that knows others, or with none."""
    nodes = ",".join(f"'rabbit@{other}'" for other in knows)
    file = f"/var/lib/rabbitmq/mnesia/rabbit@{node or name}/cluster_nodes.config"
    return {
        "name": name,
        "version": version,
        "data": f"{file}:{{[{nodes}],[{nodes}]}}." if knows else "",
    }


@pytest.fixture
def plan(load: Load) -> Callable[..., dict[str, Any]]:
    def made(members: list[str], *hosts: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = load(PATH).broker_cluster(list(hosts), members)
        return found

    return made


def test_new_hosts_found_a_cluster(plan: Any) -> None:
    found = plan(THREE, *(host(name) for name in THREE))
    assert found == {"problem": "", "new": True, "blank": THREE, "wiped": [], "leaving": []}


def test_a_cluster_that_runs_is_left_alone(plan: Any) -> None:
    found = plan(THREE, *(host(name, *THREE) for name in THREE))
    assert found == {"problem": "", "new": False, "blank": [], "wiped": [], "leaving": []}


def test_one_grows_to_three(plan: Any) -> None:
    found = plan(THREE, host("b1", "b1"), host("b2"), host("b3"))
    assert (found["problem"], found["blank"], found["wiped"]) == ("", ["b2", "b3"], [])


def test_a_host_takes_the_place_of_another(plan: Any) -> None:
    found = plan(["b1", "b2", "b4"], host("b1", *THREE), host("b2", *THREE), host("b4"))
    assert (found["problem"], found["blank"], found["leaving"]) == ("", ["b4"], ["b3"])


def test_a_host_that_lost_its_disk_is_known_to_have(plan: Any) -> None:
    found = plan(THREE, host("b1", *THREE), host("b2", *THREE), host("b3"))
    assert (found["problem"], found["wiped"]) == ("", ["b3"])


def test_a_host_that_does_not_answer_is_not_taken_for_empty(plan: Any) -> None:
    found = plan(THREE, host("b1", *THREE), host("b2", *THREE))
    assert (found["problem"], found["blank"], found["leaving"]) == ("", [], [])


def test_a_host_of_another_cluster_is_refused(plan: Any) -> None:
    found = plan(THREE, host("b1", "b1", "b2"), host("b2", "b1", "b2"), host("b3", "b3"))
    assert "b1 has the data of the cluster b1, b2, which is not that of b3" in found["problem"] or (
        "b3 has the data of the cluster b3, which is not that of b1" in found["problem"]
    )
    assert "rm -r /var/lib/rabbitmq/mnesia" in found["problem"]


def test_a_node_that_was_taken_out_does_not_return_with_its_old_data(plan: Any) -> None:
    two = ("b1", "b2")
    found = plan(THREE, host("b1", *two), host("b2", *two), host("b3", *THREE))
    assert "b3 has the data of the cluster b1, b2, b3" in found["problem"]


def test_a_member_of_somebody_elses_cluster_does_not_tear_it_apart(plan: Any) -> None:
    assert "no majority" in plan(["b1"], host("b1", *THREE))["problem"]
    moved = plan(["b1", "b8", "b9"], host("b1", *THREE), host("b8"), host("b9"))
    assert "no majority" in moved["problem"]


def test_a_host_that_was_another_node_is_refused(plan: Any) -> None:
    found = plan(["b1"], host("b1", "old", node="old"))
    assert "b1 has the data of another node, old" in found["problem"]
    assert "rm -r /var/lib/rabbitmq/mnesia/rabbit@old*" in found["problem"]


def test_a_new_host_alone_does_not_found_a_second_cluster(plan: Any) -> None:
    assert "b1, b2 is not in this run" in plan(THREE, host("b3"))["problem"]


@pytest.mark.parametrize(
    ("other", "good"), [("3.10.8-1.1+deb12u1", True), ("", True), ("3.10.9-1", False)]
)
def test_mixed_versions_are_refused(plan: Any, other: str, good: bool) -> None:
    hosts = [host(name, *THREE) for name in ("b1", "b2")]
    problem = plan(THREE, *hosts, host("b3", *THREE, version=other))["problem"]
    assert (problem == "") == good
    assert good or "3.10.8 on b1" in problem
