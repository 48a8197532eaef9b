"""Many hosts at once: bounded, each with its own deadline, in order, nothing swallowed."""

from __future__ import annotations

import threading
import time

import pytest

from backline.transport import pool
from backline.transport.port import HostError, Outcome


def test_outcomes_come_in_the_order_of_the_hosts() -> None:
    def work(host: str) -> str:
        time.sleep(0.05 if host == "a" else 0)
        if host == "c":
            raise HostError(host, "no")
        return host.upper()

    ended: list[str] = []
    found = pool.each("abc", work, deadline=5, done=lambda host, outcome: ended.append(host))
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == Outcome("A")
    assert found["c"].error and found["c"].error.message == "no"
    assert ended[-1] == "a"


def test_no_more_than_width_at_once() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(host: str) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    pool.each(map(str, range(40)), work, deadline=5, width=4)
    assert most == 4


def test_hung_hosts_lose_their_place_and_are_cut_off() -> None:
    hang, cut = threading.Event(), []

    def work(host: str) -> str:
        if host.startswith("hung"):
            hang.wait(10)
        return host

    hosts = ["hung1", "hung2", "a", "b"]
    began = time.monotonic()
    found = pool.each(hosts, work, deadline=0.2, width=2, abandon=cut.append)
    assert time.monotonic() - began < 2
    assert [found[host].value for host in ("a", "b")] == ["a", "b"]
    assert sorted(cut) == ["hung1", "hung2"]
    assert all(found[host].error.code == "deadline" for host in cut)  # type: ignore[union-attr]
    hang.set()


def test_a_fault_of_ours_is_not_a_hosts_failure() -> None:
    def work(host: str) -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        pool.each(["a"], work, deadline=5)


def test_no_hosts_no_work() -> None:
    assert pool.each([], lambda host: host, deadline=1) == {}


def test_time_for_which_we_hold_up_a_host_is_not_its_own() -> None:
    """Then it is given up as late as that, and not asked after without a pause."""
    began, looks = time.monotonic(), 0

    def held(host: str) -> float:
        nonlocal looks
        looks += 1
        return min(time.monotonic() - began, 0.5)

    hands = pool.Threads(held=held)
    hands.begin(0, "a", lambda: time.sleep(5), 0.2)
    (ended,) = hands.wait(5)
    assert 0.65 <= time.monotonic() - began < 2 and isinstance(ended.error, HostError)
    assert looks < 12
