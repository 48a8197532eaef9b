"""An edge dies: listeners reach the other one at the same address, within two seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from backline.lab.machine import podman
from tests.live import Fleet

SIZE = "full"
LIMIT = 2.0
LISTENERS = 8
POLLER = """
import http.client, json, ssl, sys, threading, time
address, seconds, listeners = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
context = ssl._create_unverified_context()
end = time.time() + seconds
def listen(number):
    while time.time() < end:
        asked, problem = time.time(), ""
        try:
            connection = http.client.HTTPSConnection(address, timeout=0.4, context=context)
            connection.request("GET", "/", headers={"Host": "localhost"})
            answer = connection.getresponse()
            answer.read()
            problem = "" if answer.status < 500 else str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        print(json.dumps([number, asked, time.time(), problem]), flush=True)
        time.sleep(0.05)
for number in range(listeners):
    threading.Thread(target=listen, args=[number]).start()
"""


def address(fleet: Fleet) -> str:
    """The one that the edges share."""
    return fleet.address(fleet.hosts("edge")[0]).rsplit(".", 1)[0] + ".10"


def holder(fleet: Fleet) -> list[str]:
    """The edges that have the shared address; those that are down have none."""
    mark = f" {address(fleet)}/"
    running = podman("ps", "--format", "{{.Names}}").split()
    return [
        edge
        for edge in fleet.hosts("edge")
        if fleet.container(edge) in running
        and mark in podman("exec", fleet.container(edge), "ip", "-4", "-o", "addr")
    ]


def settled(fleet: Fleet, limit: float = 30.0) -> str:
    """Waits until exactly one edge has the address, and every edge serves."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if len(found := holder(fleet)) == 1:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"the address is on {holder(fleet)}")


def poll(fleet: Fleet, seconds: int) -> None:
    """Starts listeners on a streaming host; `gap()` tells what they saw."""
    host = fleet.container(fleet.hosts("streaming")[0])
    podman("exec", host, "rm", "-f", "/run/polled")
    unit = ["systemd-run", "--quiet", "--unit=polling", "--collect"]
    unit += ["--property=StandardOutput=truncate:/run/polled"]
    words = ("/usr/bin/python3", "-c", POLLER, address(fleet), str(seconds), str(LISTENERS))
    podman("exec", host, *unit, *words)
    time.sleep(2)


def gap(fleet: Fleet) -> tuple[float, int, int]:
    """(seconds without service, the longest of any listener; answers; failures)."""
    host = fleet.container(fleet.hosts("streaming")[0])
    while podman("exec", host, "systemctl", "show", "-p", "ActiveState", "polling").strip() != (
        "ActiveState=inactive"
    ):
        time.sleep(0.5)
    rows = [json.loads(line) for line in podman("exec", host, "cat", "/run/polled").splitlines()]
    began, worst = min(row[1] for row in rows), 0.0
    for listener in range(LISTENERS):
        # Not their first second: eight Pythons start at once beside everything else of the lab.
        seen = [row[1:] for row in rows if row[0] == listener and row[1] > began + 1]
        assert seen and not seen[0][2], f"it never worked: {seen[:3]}"
        assert not seen[-1][2], f"it does not work any more: {seen[-3:]}"
        since = 0.0
        for asked, answered, problem in seen:
            if problem:
                since = since or asked
            elif since:
                worst, since = max(worst, answered - since), 0.0
    return worst, sum(not row[3] for row in rows), sum(bool(row[3]) for row in rows)


@pytest.fixture
def both(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose edges are both up, before and afterwards."""
    assert len(fleet.hosts("edge")) > 1, "an address is shared by two edges: use the full lab"
    yield fleet
    for edge in fleet.hosts("edge"):
        podman("start", fleet.container(edge))
        deadline = time.monotonic() + 60
        asked = ("systemctl is-active haproxy || true",)
        while podman("exec", fleet.container(edge), "sh", "-c", *asked).strip() != "active":
            assert time.monotonic() < deadline, f"HAProxy does not come up on {edge}"
            time.sleep(0.5)
    settled(fleet)


def test_a_killed_edge_is_replaced_within_two_seconds(both: Fleet) -> None:
    first = settled(both)
    poll(both, 15)
    podman("kill", both.container(first))
    seconds, answers, failures = gap(both)
    print(
        f"\n{first} killed: {seconds:.2f} s without service; {answers} answers, {failures} failed"
    )
    assert seconds <= LIMIT
    second = settled(both)
    assert second != first
    poll(both, 20)
    podman("start", both.container(first))
    seconds, answers, failures = gap(both)
    print(f"{first} back: {seconds:.2f} s without service; {answers} answers, {failures} failed")
    assert not failures, "an edge that comes back must interrupt nobody"
    assert settled(both) == second


def test_a_haproxy_that_is_gone_gives_the_address_up(both: Fleet) -> None:
    first = settled(both)
    poll(both, 15)
    container = both.container(first)
    podman("exec", container, "sh", "-c", "systemctl mask --runtime haproxy && pkill -9 haproxy")
    try:
        seconds, answers, failures = gap(both)
        print(f"\nno HAProxy on {first}: {seconds:.2f} s without; {answers} ok, {failures} failed")
        assert settled(both) != first
        assert seconds <= 2 * LIMIT
    finally:
        podman("exec", container, "systemctl", "unmask", "--runtime", "haproxy")
        podman("exec", container, "systemctl", "restart", "haproxy")
