"""`fab reboot` of hosts of which some must be there at any time: listeners hear nothing of it."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterable
from typing import Any

import pytest

from tests.chaos.ending import no_dead_letters
from tests.chaos.started import at, switched_on
from tests.chaos.test_services import fab, until
from tests.data import cluster
from tests.live import Fleet

SIZE = "full"
BACK_S = 60.0


@pytest.fixture(autouse=True, scope="module")
def letters(fleet: Fleet) -> None:
    no_dead_letters(fleet)


def boots(fleet: Fleet, hosts: Iterable[str]) -> dict[str, str]:
    """When each was switched on."""
    return {host: switched_on(fleet, host) for host in hosts}


def well(fleet: Fleet) -> bool:
    """Whether everything answers, and nobody is held back from serving."""
    rows = [row for row in fab(fleet, "status", expect=None).lines if "host" in row]
    away = [row["host"] for row in rows if not row["reachable"] or row["drained"]]
    known = [fab(fleet, task, expect=None).code for task in ("db.status", "broker.status")]
    return not away and known == [0, 0]


def test_databases_brokers_and_workers_boot_one_by_one_and_who_leads_is_the_last(
    fleet: Fleet,
) -> None:
    hosts = [h for group in ("database", "broker", "worker") for h in fleet.hosts(group)]
    before, leader = boots(fleet, hosts), cluster.leader(fleet)
    crowd = fleet.crowd(fleet.listener(), rate=20.0)
    try:
        fab(fleet, "reboot", "--on", "database:broker:worker")
    finally:
        tally = crowd.stop()
    after = boots(fleet, hosts)
    assert not [host for host in hosts if after[host] == before[host]], "did not boot"
    *others, last = sorted(fleet.hosts("database"), key=lambda host: after[host])
    assert last == leader and len(others) == 2
    assert tally.requests > 100 and not tally.failures, tally.failures
    until("all is well", BACK_S, lambda: well(fleet), every=3)


def test_of_two_edges_one_answers_at_any_time(fleet: Fleet) -> None:
    edges = fleet.hosts("edge")
    assert len(edges) > 1, "use the full lab: inv lab.up --size full"
    before = boots(fleet, edges)
    trust = ssl.create_default_context(cafile=str(fleet.ca))
    ports = {h.name: h.ports["https"][0] for h in fleet.topology if h.name in edges}
    looks: list[set[str]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            looks.append({edge for edge, port in ports.items() if _answers(port, trust)})

    watching = threading.Thread(target=look)
    watching.start()
    try:
        fab(fleet, "reboot", "--on", "edge")
    finally:
        time.sleep(1)
        over.set()
        watching.join()
    after = boots(fleet, edges)
    assert not [edge for edge in edges if after[edge] == before[edge]], "did not boot"
    assert all(looks), "nobody answered"
    assert {len(up) for up in looks} >= {1, 2}, "it was not seen that one was away"
    until("all is well", BACK_S, lambda: well(fleet), every=3)


def _answers(port: int, trust: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(f"https://localhost:{port}/", timeout=2, context=trust) as page:
            return int(page.status) == 200
    except OSError:
        return False


# What would take too many away is refused, and nothing is touched.


def refused(fleet: Fleet, host: str, *words: str) -> str:
    """What is said; the host has not been marked as one that somebody works on, nor switched off."""
    before = switched_on(fleet, host)
    answer = fab(fleet, *words, "--on", host, expect=None)
    assert answer.code == 1, answer.out
    assert at(fleet, host, "cat /var/lib/backline/upkeep /run/backline/drain 2>/dev/null") == ""
    assert switched_on(fleet, host) == before
    return " ".join(f"{answer.out} {answer.err}".split())


def test_the_last_edge_that_answers_does_not_boot(fleet: Fleet) -> None:
    first, second = fleet.hosts("edge")
    keeps = "systemctl is-active keepalived"
    before = at(fleet, first, keeps)
    at(fleet, second, "systemctl stop haproxy")
    try:
        answer = fab(fleet, "reboot", "--on", first, expect=None)
        said = " ".join(f"{answer.out} {answer.err}".split())
        assert answer.code == 1 and "no other edge host answers and serves" in said
        assert at(fleet, first, keeps) == before
        assert at(fleet, first, "cat /var/lib/backline/upkeep 2>/dev/null") == ""
    finally:
        at(fleet, second, "systemctl start haproxy")
    fab(fleet, "reboot", "--on", first)
    until("all is well", BACK_S, lambda: well(fleet), every=3)


MARK = "/var/lib/backline/upkeep"


def proxy(fleet: Fleet, host: str, **request: Any) -> Any:
    """What the database proxy of an app host answers."""
    return json.loads(at(fleet, host, f"echo '{json.dumps(request)}' | hostctl proxy"))


def test_nobody_else_may_be_at_work_on_another_database(fleet: Fleet) -> None:
    """Who is refused undoes nothing of what the other one did."""
    leader, app = cluster.leader(fleet), fleet.hosts("streaming")[0]
    first, second = [host for host in fleet.hosts("database") if host != leader]
    drained = proxy(fleet, app, action="drain", server=first, seconds=900, actor="test")["held"]
    at(fleet, first, f"echo patch-of-somebody > {MARK}")
    try:
        said = refused(fleet, second, "restart")
        assert f"{first}: somebody is at work there" in said and "patch-of-somebody" in said
        assert drained and proxy(fleet, app, action="status")["held"] == drained
    finally:
        at(fleet, first, f"rm -f {MARK}")
        proxy(fleet, app, action="release", actor="test")


def test_nobody_else_may_be_at_work_on_the_same_edge(fleet: Fleet) -> None:
    host = fleet.hosts("edge")[0]
    at(fleet, host, f"echo patch-of-somebody > {MARK}; systemctl stop keepalived")
    try:
        answer = fab(fleet, "restart", "--on", host, expect=None)
        said = " ".join(f"{answer.out} {answer.err}".split())
        assert answer.code == 1 and "patch-of-somebody is at work here" in said
        assert at(fleet, host, f"cat {MARK}").strip() == "patch-of-somebody"
        assert at(fleet, host, "systemctl is-active keepalived").strip() != "active"
        at(fleet, host, f"touch -d '2 hours ago' {MARK}")  # it was killed, and nobody goes on
        fab(fleet, "restart", "--on", host)
        assert at(fleet, host, f"cat {MARK} 2>/dev/null") == ""
    finally:
        at(fleet, host, f"rm -f {MARK}; systemctl start keepalived")
    until("all is well", BACK_S, lambda: well(fleet), every=3)


def test_a_database_is_not_touched_while_a_host_does_not_answer_whose_clients_it_has(
    fleet: Fleet,
) -> None:
    silent, host = fleet.hosts("streaming")[0], fleet.hosts("database")[0]
    at(fleet, silent, "systemctl stop ssh")
    try:
        assert f"no answer of {silent}" in refused(fleet, host, "restart")
    finally:
        at(fleet, silent, "systemctl start ssh")


def test_a_host_that_somebody_drained_is_restarted_and_stays_drained(fleet: Fleet) -> None:
    host = fleet.hosts("streaming")[0]
    fab(fleet, "drain", host, "--message", "mine")
    try:
        fab(fleet, "restart", "--on", host)
        (row,) = [r for r in fab(fleet, "status", "--on", host, expect=None).lines if "host" in r]
        assert row["drained"] and row["upkeep"] is None
        assert not str(row["drained_by"]).startswith("patch-")
    finally:
        fab(fleet, "undrain", host)
    until("all is well", BACK_S, lambda: well(fleet), every=3)
