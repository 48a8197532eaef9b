"""One broker of three is killed: what was confirmed is done, and consumers are back within 30 seconds."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from backline.errors import BacklineError
from tests.data import faults
from tests.data.cluster import inside, running
from tests.data.remote import wait_until
from tests.data.trial import JOBS_QUEUE, Jobs
from tests.live import Fleet

SIZE = "full"
BACK_S = 30.0
VHOST = "jukebox"


def whole_brokers(fleet: Fleet) -> bool:
    """Whether every node runs and every quorum queue has all of its copies, also as `fab broker.status`
    sees it: by the nodes' metrics, seconds later, and no node is one that a queue depends on.
    """
    hosts = fleet.hosts("broker")
    if running(fleet, hosts) != hosts:
        return False
    try:
        status = json.loads(
            inside(fleet, hosts[0], "rabbitmqctl", "-q", "cluster_status", "--formatter", "json")
        )
        found = queues(fleet, hosts[0])
        if len(status["running_nodes"]) < len(hosts) or not all(
            len(queue["online"]) == len(hosts) for queue in found
        ):
            return False
        return all({queue["name"] for queue in found} <= spare(fleet, host) for host in hosts)
    except (BacklineError, ValueError):
        return False


def queues(fleet: Fleet, host: str) -> list[dict[str, Any]]:
    words = ("rabbitmqctl", "-q", "--formatter", "json", "list_queues", "-p", VHOST)
    listed: list[dict[str, Any]] = json.loads(
        inside(fleet, host, *words, "name", "leader", "members", "online")
    )
    return [queue for queue in listed if queue.get("members")]


def spare(fleet: Fleet, host: str) -> set[str]:
    """The queues of which the host's metrics tell a copy; none while a queue depends on that one."""
    ask = """echo '{"action": "status"}' | /usr/local/bin/hostctl broker"""
    told = json.loads(inside(fleet, host, "sh", "-c", ask))
    if told["critical"]:
        return set()
    return {row["name"] for row in told["queues"] if row["copy"] and row["vhost"] == VHOST}


@pytest.fixture
def brokers(data: Fleet) -> Iterator[Fleet]:
    """Three brokers in step, before and afterwards."""
    fleet = data
    assert len(fleet.hosts("broker")) == 3, "use the full lab: inv lab.up --size full"
    wait_until("the brokers are whole", 120, lambda: whole_brokers(fleet), every=1)
    yield fleet
    faults.mend(fleet)
    wait_until("the brokers are whole again", 240, lambda: whole_brokers(fleet), every=1)
    words = ("rabbitmqctl", "-q", "delete_queue", "-p", VHOST, JOBS_QUEUE)
    with contextlib.suppress(BacklineError):  # a test that ended early has made none
        inside(fleet, fleet.hosts("broker")[0], *words)


@pytest.mark.parametrize("which", ["that leads the queue", "that clients talk to"])
def test_a_broker_is_killed(brokers: Fleet, which: str) -> None:
    with Jobs(brokers, f"broker killed {which}") as jobs:
        hosts = brokers.hosts("broker")
        leads = next(q["leader"] for q in queues(brokers, hosts[0]) if q["name"] == JOBS_QUEUE)
        # Clients try the hosts in the order in which their settings name them.
        victim = str(leads).removeprefix("rabbit@") if "leads" in which else hosts[0]
        with faults.killed(brokers, victim):
            jobs.back(2 * BACK_S)
            time.sleep(5)
        # It comes back while they work.
        wait_until("the brokers are whole", 240, lambda: whole_brokers(brokers), every=1)
        jobs.back(BACK_S)
    jobs.verdict.safe()
    assert jobs.verdict.gap <= BACK_S
