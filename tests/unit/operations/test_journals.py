"""Journals of hosts that are functions: what each is asked, and the order of what it says."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterable

import pytest

from backline.errors import BacklineError
from backline.operations.logs import merge
from backline.operations.logs.merge import Journals
from backline.operations.logs.wanted import Wanted
from backline.transport import pool
from backline.transport.clock import SystemClock
from backline.transport.port import DeadlinePassed, Hands, Heard, Reply, Unreachable

NOON = 1_800_000_000
Say = Callable[[bytes], None]
Host = Callable[[str, Say, float], Reply | None]


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
        say: Say = lambda data: heard("stdout", data)  # noqa: E731
        return self.hosts[host](command, say, deadline) or Reply(0, b"", b"")

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


# What follows is followed: hosts that are lost, or whose stretch is over.

NOTHING = Reply(0, b"", b"")
LATE = DeadlinePassed("h1", 120.0, NOTHING)
LOST = Unreachable("h1", "connection lost", code="lost", reply=NOTHING)
REFUSED = Unreachable("h1", "refused", code="refused", sent=False)


def turns(*errors: Exception | Reply) -> Host:
    """Ends in these ways, one after the other, and then has a line."""
    left = list(errors)

    def answer(command: str, say: Say, deadline: float) -> Reply:
        time.sleep(0.05)
        end = left.pop(0) if left else None
        if isinstance(end, Reply):
            return end
        if end:
            raise end
        say(line(1, "at last"))
        time.sleep(5)
        return NOTHING

    return answer


def options(command: str) -> dict[str, str]:
    words = (word.partition("=") for word in shlex.split(command))
    return {name: value for name, _, value in words}


@pytest.mark.parametrize(
    "errors",
    [
        (LATE,),
        (LOST, REFUSED, REFUSED),
        (LATE, REFUSED, LOST),
        (Reply(143, b"", b"Terminated"), REFUSED),
        (Reply(-1, b"", b""), REFUSED),
    ],
)
def test_a_host_without_a_fitting_line_is_asked_again_for_all_since_it_was_there(
    errors: tuple[Exception | Reply, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "AGAIN_SECONDS", 0.1)
    began = time.time()
    hosts, told = Hosts(h1=turns(*errors)), list[str]()
    wanted = Wanted(follow=True, grep="x")
    reading = Journals(hosts, SystemClock(), wanted, lambda host, what: told.append(what))
    lines = reading.read(["h1"])
    assert next(lines).message == "at last"
    lines.close()  # type: ignore[attr-defined]
    first, *later = map(options, hosts.asked["h1"])
    assert first["--lines"] == "10" and "--since" not in first and len(later) == len(errors)
    for asked in later:
        assert asked["--lines"] == "all" and asked["--grep"] == "x"
        assert began - 6 <= float(asked["--since"].removeprefix("@")) <= time.time() - 4
    assert told == ([] if errors == (LATE,) else [told[0], "is back"])


@pytest.mark.parametrize("error", [REFUSED, Reply(1, b"", b"Failed to compile the pattern")])
def test_a_host_that_never_was_there_is_not_asked_again(error: Exception | Reply) -> None:
    hosts = Hosts(h1=turns(error))
    with pytest.raises(BacklineError, match="1 of 1 journals could not be read"):
        list(Journals(hosts, SystemClock(), Wanted(follow=True)).read(["h1"]))
    assert len(hosts.asked["h1"]) == 1


def test_lines_since_some_time_are_asked_for_again_until_a_whole_stretch_had_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge, "AGAIN_SECONDS", 0.1)
    hosts = Hosts(h1=turns(LOST, LATE))
    lines = Journals(hosts, SystemClock(), Wanted(follow=True, since="1h")).read(["h1"])
    assert next(lines).message == "at last"
    lines.close()  # type: ignore[attr-defined]
    assert [options(asked)["--since"][:2] for asked in hosts.asked["h1"]] == ["-1", "-1", "@1"]
