"""One command on many hosts, without SSH: who gets a turn, who holds up whom, who said the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from backline.console.answers import Folded
from backline.console.progress import Progress
from backline.errors import BacklineError
from backline.operations.adhoc import command as adhoc
from backline.operations.adhoc.command import Command, Job
from backline.operations.adhoc.fold import difference, fold, majority
from backline.operations.adhoc.results import Result, Results, after_interruption, failure
from backline.transport import pool
from backline.transport.clock import SystemClock
from backline.transport.port import Hands, Heard, HostError, Reply, Unreachable

WELL = Reply(0, b"well\n", b"")


class Shells:
    """port.Shells: each host answers as `answers` says, else well. `most`: how many at a time."""

    def __init__(self, **answers: Callable[[], Reply]) -> None:
        self.answers = answers
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.asked: list[str] = []
        self.released: list[str] = []
        self.were_cut: list[str] = []
        self.gone = threading.Event()

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
        with self.lock:
            self.asked.append(host)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self.answers.get(host, lambda: WELL)()
        finally:
            with self.lock:
                self.running -= 1

    def hands(self) -> Hands:
        return pool.Threads()

    def let_go(self, host: str) -> None:
        self.released.append(host)

    def cut(self, hosts: Iterable[str]) -> list[str]:
        self.were_cut += (found := list(hosts))
        self.gone.set()
        return found


def names(count: int) -> list[str]:
    return [f"h{number}" for number in range(count)]


def slow() -> Reply:
    time.sleep(0.05)
    return WELL


def silent() -> Reply:
    time.sleep(60)
    return WELL


def test_a_fanout_is_kept_to() -> None:
    fleet = Shells(**dict.fromkeys(names(20), slow))
    results = Command(fleet, Job("x", fanout=3), SystemClock()).carry_out(names(20))
    assert results.ok and fleet.most == 3
    assert [result.host for result in results] == names(20)


def test_silent_hosts_hold_up_nobody_and_the_run_ends_with_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of them than there are handshakes at a time, and first in line."""
    monkeypatch.setattr(adhoc, "FRESH_MOST", 4)
    monkeypatch.setattr(adhoc, "FRESH_SECONDS", 0.1)
    monkeypatch.setattr(adhoc, "GIVE_UP_SECONDS", 0.1)
    fleet = Shells(**dict.fromkeys(names(20), silent))
    ended: dict[str, float] = {}
    began = time.monotonic()
    results = Command(
        fleet,
        Job("x", timeout=2),
        SystemClock(),
        told=lambda result: ended.setdefault(result.host, time.monotonic() - began),
    ).carry_out(names(60))
    took = time.monotonic() - began
    assert results.hosts("ok") == names(60)[20:]
    assert results.hosts("unreachable") == names(20)
    assert max(ended[host] for host in results.hosts("ok")) < 1.5 and 2 <= took < 4


def test_handshakes_are_made_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adhoc, "FRESH_MOST", 5)
    fleet = Shells(**dict.fromkeys(names(30), slow))
    assert Command(fleet, Job("x"), SystemClock()).carry_out(names(30)).ok
    assert fleet.most == 5


def test_too_many_failures_stop_the_rest() -> None:
    def refuse() -> Reply:
        raise Unreachable("h0", "refused", code="refused")

    fleet = Shells(h0=refuse, h1=lambda: Reply(2, b"", b""))
    results = Command(fleet, Job("x", fanout=1, max_fail=2), SystemClock()).carry_out(names(5))
    assert [result.state for result in results] == ["unreachable", "failed", *["skipped"] * 3]
    assert fleet.asked == ["h0", "h1"]
    error = failure(results)
    assert error and error.message == "1 failed, 1 unreachable, 3 not begun of 5 hosts"
    assert error.hosts == tuple(names(5)) and "not known" in error.state


def test_an_interruption_ends_what_runs_and_begins_nothing() -> None:
    def interrupt(result: Result) -> None:
        raise KeyboardInterrupt

    fleet = Shells(h1=silent)
    work = Command(fleet, Job("x", fanout=2), SystemClock(), told=lambda result: None)
    work.told = lambda result: interrupt(result) if not work.interrupted else None
    results = work.carry_out(names(4))
    assert work.interrupted and fleet.were_cut == ["h1"]
    assert [result.state for result in results] == ["ok", "interrupted", "skipped", "skipped"]


def test_what_runs_is_ended_when_who_is_told_raises() -> None:
    def told(result: Result) -> None:
        raise ZeroDivisionError

    fleet = Shells(h1=silent)
    with pytest.raises(ZeroDivisionError):
        Command(fleet, Job("x", fanout=2, kept=True), SystemClock(), told).carry_out(names(2))
    assert fleet.were_cut == ["h1"]


def test_what_had_been_said_before_an_interruption_is_shown() -> None:
    """Also of a host that had ended, while the view was busy with the one before it."""

    def interrupt(result: Result) -> None:
        if not work.interrupted:
            time.sleep(0.1)
            raise KeyboardInterrupt

    def lost() -> Reply:
        fleet.gone.wait(10)
        raise Unreachable("h1", "lost", code="lost", reply=Reply(-1, b"begun", b""))

    fleet = Shells(h1=lost, h2=slow)
    work = Command(fleet, Job("x"), SystemClock(), told=interrupt)
    results = work.carry_out(names(3))
    assert [result.state for result in results] == ["ok", "interrupted", "ok"]
    assert results["h1"].stdout == b"begun"
    groups = fold([*results, replace(results["h1"], host="h9", stdout=b"")])
    assert ("h1",) in [group.hosts for group in groups]


def test_no_more_is_said_of_hosts_than_is_known() -> None:
    """Of those that were never connected to nothing was ended, and what they did is known."""
    lost = Result("a", "unreachable", kind="lost")
    refused = Result("b", "unreachable", kind="refused", sent=False)
    cut = Result("c", "interrupted", kind="interrupted")
    for found, words in (
        ([lost], "what the unreachable hosts did is not known"),
        ([refused], "nothing was sent to the unreachable hosts"),
        ([lost, refused], "what a did is not known; nothing was sent to the other"),
        ([cut], ""),
    ):
        error = failure(found)
        assert error and error.state.startswith(words) and bool(error.state) == bool(words)
    assert "asked to end, and is killed 5 s later" in after_interruption([cut, lost], 60)
    assert "within 90 s, or when its 60 s are over" in after_interruption([cut], 60)
    unsent = replace(cut, sent=False)
    assert after_interruption([unsent, lost], 60) == "nothing was running on the hosts"


def test_hosts_that_were_not_connected_to_when_we_were_interrupted_were_sent_nothing() -> None:
    class Connecting(Shells):
        def cut(self, hosts: Iterable[str]) -> list[str]:
            return [host for host in hosts if host == "h2"]

    def interrupt(result: Result) -> None:
        if not work.interrupted:
            raise KeyboardInterrupt

    begun = threading.Barrier(3)

    def met(then: Callable[[], Reply]) -> Callable[[], Reply]:
        return lambda: (begun.wait(10), then())[1]

    fleet = Connecting(h0=met(lambda: WELL), h1=met(silent), h2=met(silent))
    work = Command(fleet, Job("x"), SystemClock(), told=interrupt)
    results = work.carry_out(names(3))
    assert [result.sent for result in results] == [True, False, True]
    assert "asked to end" in results["h2"].why and "nothing was sent" in results["h1"].why


def test_connections_are_let_go_unless_there_is_more_to_come() -> None:
    for kept, released in ((False, names(3)), (True, [])):
        fleet = Shells()
        Command(fleet, Job("x", kept=kept), SystemClock()).carry_out(names(3))
        assert sorted(fleet.released) == released


def test_a_fault_of_ours_is_no_hosts_result() -> None:
    def fault() -> Reply:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Command(Shells(h0=fault), Job("x"), SystemClock()).carry_out(names(1))


@pytest.mark.parametrize(
    "job",
    [
        *(
            Job(" "),
            Job("a\0b"),
            Job("a\udcff"),
            Job("x", timeout=0),
            Job("x", fanout=-1),
            Job("x", max_fail=-1),
        ),
        Job("x", stdin=bytes(adhoc.STDIN_MOST + 1)),
    ],
)
def test_nonsense_is_refused_before_anybody_is_asked(job: Job) -> None:
    with pytest.raises(BacklineError):
        Command(Shells(), job, SystemClock())


def said(host: str, out: str, code: int = 0) -> Result:
    return Result(host, "failed" if code else "ok", code, out.encode())


def test_the_same_words_with_another_exit_code_are_another_group() -> None:
    results = [said("a", "x"), said("b", "x", 1), said("c", "x"), said("d", "y")]
    groups = fold([*results, Result("e", "unreachable", why="refused at 1", kind="refused")])
    assert [group.hosts for group in groups] == [("a", "c"), ("d",), ("b",), ("e",)]
    usual = majority(groups)
    assert usual is groups[0]
    assert difference(usual, groups[1], ("a,c", "d"))[-2:] == ["-x", "+y"]


def test_empty_lines_at_the_end_are_lines() -> None:
    ended, more = said("a", "x\n"), said("b", "x\n\n\n")
    one, other = fold([ended, more, said("c", "x\n")])
    assert (one.lines, other.lines, more.out) == (["x"], ["x", "", ""], "x\n\n")
    assert difference(one, other, ("a", "b"))[-2:] == ["+", "+"]
    assert fold([said("a", "\n")])[0].lines == [""] and not fold([said("a", "")])[0].lines


def test_results_are_a_tuple_too() -> None:
    results = Results([said("a", "x"), said("b", "y")])
    assert results[:1] == (results["a"],) and results[-1] is results["b"]


def test_a_host_that_fails_at_once_is_no_majority(capsys: pytest.CaptureFixture[str]) -> None:
    """What differs is shown when more than half of all have said the same, or all are done."""
    hosts = ["a", "b", "c", "d", "e"]
    view = Folded(Progress(hosts, silent=True), hosts, differences=True)
    view.take(Result("a", "failed", 1, b"one\ntwo\n"))
    view.take(Result("b", "ok", 0, b"one\n"))
    view.take(Result("c", "ok", 0, b"one\n"))
    view.quiet()
    assert capsys.readouterr().out == ""
    view.take(Result("d", "ok", 0, b"one\n"))
    view.quiet()
    first = capsys.readouterr().out.splitlines()
    assert first[:3] == ["── b,c,d  3 hosts, exit 0", "one", "── a  1 host, exit 1"]
    assert first[-1] == "+two"
    view.take(Result("e", "ok", 0, b"zero\n"))
    view.end()
    assert capsys.readouterr().out.splitlines()[-2:] == ["-one", "+zero"]


def test_without_a_majority_the_largest_part_is_what_others_differ_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hosts = ["a", "b", "c", "d"]
    view = Folded(Progress(hosts, silent=True), hosts, differences=True)
    for host, said in zip("abc", (b"one\n", b"two\n", b"two\n"), strict=True):
        view.take(Result(host, "ok", 0, said))
    view.take(Result("d", "unreachable", kind="refused"))
    view.quiet()
    assert capsys.readouterr().out == ""
    view.end()
    shown = capsys.readouterr().out
    assert "b,c  2 hosts, exit 0\ntwo\n" in shown and "-two\n+one\n" in shown


def test_nothing_is_called_the_same_that_is_known_to_differ() -> None:
    """Bytes that look alike, an end of line more, another text beyond what is kept."""
    pairs = [
        (Result("a", "ok", 0, b"x\xff"), Result("b", "ok", 0, b"x\xfe"), "not shown"),
        (Result("a", "ok", 0, b"x\n"), Result("b", "ok", 0, b"x"), "not shown"),
        (
            Result("a", "ok", 0, b"x", cut=True, beyond=("", "1")),
            Result("b", "ok", 0, b"x", cut=True, beyond=("", "2")),
            "what differs lies in stderr beyond",
        ),
    ]
    for one, two, words in pairs:
        first, second = fold([one, two])
        assert words in difference(first, second, ("a", "b"))[0]


def test_hosts_that_fail_for_one_reason_are_one_group_whatever_their_addresses() -> None:
    errors = [Result(host, "unreachable", why=f"{host}: no", kind="timeout") for host in "ab"]
    assert [group.hosts for group in fold(errors)] == [("a", "b")]
    assert majority(fold(errors)) is None


def test_a_refusal_by_the_host_is_no_unreachable_host() -> None:
    def refuse() -> Reply:
        raise HostError("h0", "no", code="x")

    results = Command(Shells(h0=refuse), Job("x"), SystemClock()).carry_out(["h0"])
    assert results["h0"].state == "failed" and results["h0"].code is None
    with pytest.raises(KeyError):
        results["h9"]
