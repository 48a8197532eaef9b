"""Journals of hosts that are functions: what each is asked, and the order of what it says."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable

import pytest

from backline.errors import BacklineError
from backline.operations.logs.merge import Journals
from backline.operations.logs.wanted import Wanted
from backline.transport import pool
from backline.transport.clock import SystemClock
from backline.transport.port import Hands, Heard, Reply

NOON = 1_800_000_000
Say = Callable[[bytes], None]
Host = Callable[[str, Say, float], None]


class Hosts:
    """port.Shells. `asked`: the commands that each host was given."""

    def __init__(self, **hosts: Host) -> None:
        self.hosts, self.asked = hosts, {name: list[str]() for name in hosts}

    def run(
        self,
        host: str,
        command: str,
        *,
        deadline: float,
        stdin: bytes = b"",
        sudo: bool = False,
        heard: Heard | None = None,
    ) -> Reply:
        assert heard
        self.asked[host].append(command)
        self.hosts[host](command, lambda data: heard("stdout", data), deadline)
        return Reply(0, b"", b"")

    def hands(self) -> Hands:
        return pool.Threads()

    def let_go(self, host: str) -> None:
        pass

    def cut(self, hosts: Iterable[str]) -> list[str]:
        return list(hosts)


def line(second: int, message: str = "", **fields: str) -> bytes:
    content = {"__REALTIME_TIMESTAMP": f"{NOON + second}000000", "MESSAGE": message or str(second)}
    return json.dumps({**content, **fields}).encode() + b"\n"


def journal(seconds: Iterable[int]) -> Host:
    """Counts as systemd 252 does where a time or a text meets --lines: from where it begins."""

    def answer(command: str, say: Say, deadline: float) -> None:
        lines = [line(second) for second in seconds]
        if "--reverse" in command:
            lines.reverse()
        found = re.search(r"--lines=(\d+)", command)
        for each in lines[: int(found[1]) if found else None]:
            say(each)

    return answer


@pytest.mark.parametrize("fits", [{"since": "1h"}, {"until": "now"}, {"grep": "."}])
def test_the_newest_lines_that_fit_come_oldest_first(fits: dict[str, str]) -> None:
    """More of them than one queue holds, and hosts that take turns."""
    hosts = Hosts(h1=journal(range(0, 2000, 2)), h2=journal(range(1, 2000, 2)))
    found = Journals(hosts, SystemClock(), Wanted(**fits, lines=500)).read(["h1", "h2"])
    assert [int(entry.message) for entry in found] == list(range(1000, 2000))


def test_a_host_that_falls_silent_amid_its_newest_lines_is_shown_and_given_up() -> None:
    """While lines come it is not silent, though none can be shown before all are there."""

    def slow(command: str, say: Say, deadline: float) -> None:
        for second in (9, 8, 7):
            say(line(second))
            time.sleep(0.7)
        time.sleep(30)

    found = []
    wanted = Wanted(grep=".", lines=9, silence=1.0)
    with pytest.raises(BacklineError, match="no line within 1 s"):
        for entry in Journals(Hosts(h1=slow), SystemClock(), wanted).read(["h1"]):
            found.append(entry.message)
    assert found == ["7", "8", "9"]


@pytest.mark.parametrize(
    "wanted", [Wanted(lines=5), Wanted(since="1h"), Wanted(follow=True, grep="x", lines=5)]
)
def test_lines_that_journalctl_counts_rightly_come_as_they_are(wanted: Wanted) -> None:
    assert not wanted.backward and "--reverse" not in wanted.command()


def test_lines_since_some_time_are_all_followed() -> None:
    """journalctl shows the oldest of them first, and all the others with the next line."""
    with pytest.raises(BacklineError, match="leave --lines away"):
        Wanted(follow=True, since="1h", lines=5).check()
