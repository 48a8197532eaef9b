"""`fab logs` over real SSH. The hosts' journalctl is a script here: this machine has no journal."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from loop import Place, ended, wait_for

from backline.api import Fleet
from backline.errors import BacklineError
from backline.inventory import load
from backline.operations.logs import merge
from backline.operations.logs.entry import read
from backline.operations.logs.feeds import MOST, Feeds
from backline.operations.logs.wanted import Wanted
from backline.transport.clock import SystemClock

JOURNALCTL = """#!/bin/sh
me=${SSH_CONNECTION#* * }; me=${me%% *}
printf '%s\\n' "$*" >HERE/$me.asked
[ -e HERE/$me.sh ] || exit 0
. HERE/$me.sh
"""
NOON = 1_800_000_000_000_000


@pytest.fixture
def journals(place: Place) -> Path:
    for old in place.programs.iterdir():
        old.unlink()
    program = place.programs / "journalctl"
    program.write_text(JOURNALCTL.replace("HERE", str(place.programs)))
    program.chmod(0o755)
    return place.programs


def entry(after: float, message: object, **fields: object) -> str:
    """A line of journalctl's, `after` seconds past noon."""
    content = {"__REALTIME_TIMESTAMP": str(NOON + int(after * 1e6)), "MESSAGE": message, **fields}
    return json.dumps(content)


def serve(journals: Path, number: int, *lines: str, then: str = "") -> None:
    """What host number so-and-so answers."""
    file = journals / f"127.0.1.{number}.lines"
    file.write_text("".join(f"{line}\n" for line in lines))
    (journals / f"127.0.1.{number}.sh").write_text(f"cat {file}\n{then}\n")


def test_journals_are_merged_in_the_order_of_time(place: Place, journals: Path) -> None:
    unit = {"_SYSTEMD_UNIT": "jukebox-web.service", "_PID": "7", "PRIORITY": "3"}
    serve(journals, 1, *(entry(n, f"a{n}") for n in range(0, 3000, 3)))
    serve(journals, 2, *(entry(n, f"b{n}", **unit) for n in range(1, 3000, 3)))
    serve(journals, 3, *(entry(n, f"c{n}") for n in range(2, 3000, 3)))
    done = place.fab("logs", "--on", "apps")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.rsplit(maxsplit=1)[1][1:] for line in lines] == [str(n) for n in range(3000)]
    assert lines[0] == "01-15 08:00:00.000 h1 -: a0"
    assert lines[1] == "01-15 08:00:01.000 h2 jukebox-web[7]: b1"


def test_what_is_asked_of_a_host(place: Place, journals: Path) -> None:
    words = ["--since", "10m", "--grep", "a b", "--unit", "nginx,jukebox-*", "--priority", "err"]
    place.fab("logs", "--on", "h1", *words, "--lines", "7")
    asked = (journals / "127.0.1.1.asked").read_text()
    for word in ("--since=-10m", "--grep=a b", "--unit=nginx", "--unit=jukebox-*", "--lines=7"):
        assert word in asked
    assert "--priority=err" in asked and "--output=json" in asked and "--follow" not in asked


def test_bytes_steer_no_terminal(place: Place, journals: Path) -> None:
    evil = list(b"caf\xc3\xa9 \x1b[2J\x07 \xff")
    serve(journals, 1, entry(0, evil), entry(1, "one\ntwo"), entry(2, None), entry(3, ["a", [98]]))
    lines = place.fab("logs", "--on", "h1").stdout.splitlines()
    assert lines[0].endswith("-: café \\x1b[2J\\x07 \N{REPLACEMENT CHARACTER}")
    assert lines[1].endswith("-: one") and lines[2].strip() == "two"
    assert lines[3].endswith("-: ") and lines[4].endswith("-: a") and lines[5].strip() == "b"
    found = json.loads(place.fab("logs", "--on", "h1", "--json").stdout.splitlines()[0])
    assert found["message"] == "café \x1b[2J\x07 \N{REPLACEMENT CHARACTER}"
    assert (found["schema_version"], found["host"], found["time"]) == (1, "h1", NOON / 1e6)


def test_hosts_that_cannot_be_read_are_named_and_the_others_shown(
    place: Place, journals: Path
) -> None:
    serve(journals, 1, entry(0, "fine"))
    (journals / "127.0.1.2.sh").write_text(
        "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1"
    )
    (journals / "127.0.1.3.sh").write_text("echo 'Failed to parse timestamp: x' >&2; exit 1")
    (journals / "127.0.1.4.sh").write_text("exit 1")  # nothing fits --grep
    serve(journals, 1, entry(0, "fine"), entry(1, "to the end"), then="echo broken >&2; exit 1")
    done = place.fab("logs", "--on", "all")
    assert done.returncode == 1 and "fine" in done.stdout and "to the end" in done.stdout
    assert "hosts: dead,h[1-3]" in done.stderr and "systemd-journal" in done.stderr
    assert "h3: Failed to parse timestamp: x" in done.stderr and "h4" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 130)])
def test_followed_lines_come_at_once_and_ctrl_c_ends_it_there(
    place: Place, journals: Path, tmp_path: Path, number: int, code: int
) -> None:
    late = entry(5, "older, and late")
    serve(journals, 1, entry(9, "newer"), then=f"echo $$ >{tmp_path}/pid; exec sleep 60")
    serve(journals, 2, then=f"sleep 0.3; echo '{late}'; exec sleep 60")
    process = subprocess.Popen(
        [*place.argv, "logs", "--follow", "--on", "h1,h2"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline().endswith("older, and late\n")
    assert process.stdout.readline().endswith("newer\n")
    marker = tmp_path / "pid"
    wait_for(marker.exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == code, said
    assert ended(marker)
    assert "--follow" in (journals / "127.0.1.1.asked").read_text()


def test_a_host_that_is_lost_while_it_is_followed_is_asked_again(
    place: Place, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where it stopped: as after a reboot. One that never answered is not."""
    monkeypatch.setattr(merge, "AGAIN_SECONDS", 0.3)
    told: list[tuple[str, str]] = []
    serve(journals, 1, entry(1, "before", __CURSOR="s=1;i=7"))
    (journals / "127.0.1.1.sh").write_text(
        f"cat {journals}/127.0.1.1.lines; mv {journals}/next {journals}/127.0.1.1.sh; exit 1"
    )
    (journals / "next").write_text(f"echo '{entry(2, 'after', __CURSOR='x')}'; exec sleep 60")
    environment = load("loop", place.root / "inventory")
    with Fleet(environment) as fleet:
        wanted = Wanted(follow=True)
        reading = merge.Journals(
            fleet.reach(), SystemClock(), wanted, lambda host, what: told.append((host, what))
        )
        lines = reading.read(["h1", "dead"])
        assert [next(lines).message for _ in range(2)] == ["before", "after"]
        lines.close()  # type: ignore[attr-defined]
    asked = (journals / "127.0.1.1.asked").read_text()
    assert "--after-cursor=s=1;i=7" in asked and "--lines=all" in asked
    assert ("h1", "is back") in told
    assert sum(host == "dead" for host, _ in told) == 1


def test_a_journal_is_followed_in_stretches_from_where_each_ended(
    place: Place, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is asked for ever goes on for ever when our machine sleeps."""
    monkeypatch.setattr(merge, "STRETCH_SECONDS", 2.0)
    told: list[tuple[str, str]] = []
    first = entry(1, "first", __CURSOR="s=1;i=7")
    second = entry(2, "second", __CURSOR="s=1;i=8")
    (journals / "127.0.1.1.sh").write_text(
        f"case $* in *after-cursor*) echo '{second}';; *) echo '{first}';; esac; exec sleep 60"
    )
    (journals / "127.0.1.2.sh").write_text("exec sleep 60")
    with Fleet(load("loop", place.root / "inventory")) as fleet:
        reading = merge.Journals(
            fleet.reach(),
            SystemClock(),
            Wanted(follow=True),
            lambda host, what: told.append((host, what)),
        )
        lines = reading.read(["h1", "h2"])
        assert [next(lines).message for _ in range(2)] == ["first", "second"]
        asked = (journals / "127.0.1.1.asked").read_text()
        assert "--after-cursor=s=1;i=7" in asked and "--follow" in asked
        lines.close()  # type: ignore[attr-defined]
    assert told == []


def test_a_reader_who_has_enough_ends_it(place: Place, journals: Path, tmp_path: Path) -> None:
    line = entry(0, "x" * 200)
    (journals / "127.0.1.1.sh").write_text(f"echo $$ >{tmp_path}/pid; exec yes '{line}'")
    words = f"{place.argv[0]} logs --on h1 | head -n 2"
    done = subprocess.run(
        ["bash", "-c", f"{words}; exit ${{PIPESTATUS[0]}}"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 141 and done.stderr == b""
    assert len(done.stdout.splitlines()) == 2 and ended(tmp_path / "pid")


def test_a_host_that_says_nothing_is_given_up(place: Place, journals: Path) -> None:
    serve(journals, 1, entry(0, "fine"))
    serve(journals, 2, then="sleep 60")
    environment = load("loop", place.root / "inventory")
    found = []
    began = time.monotonic()
    with Fleet(environment) as fleet, pytest.raises(BacklineError) as raised:
        for line in fleet.on("h1,h2").logs(silence=2.0):
            found.append(line.message)
    assert found == ["fine"] and raised.value.hosts == ("h2",)
    assert "no line within 2 s" in raised.value.message and time.monotonic() - began < 10


def test_a_fast_host_waits_for_a_slow_reader() -> None:
    feeds = Feeds(["h"])
    line = entry(0, "x").encode() + b"\n"
    sent = []

    def send() -> None:
        for number in range(10):
            feeds.hear("h", "stdout", line * MOST)
            sent.append(number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    time.sleep(0.3)
    assert len(sent) == 1  # the second batch waits for room
    for _ in range(MOST):
        assert feeds.head("h")
    wait_for(lambda: len(sent) == 2)
    feeds.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_line_that_comes_in_pieces_is_one_line() -> None:
    feeds = Feeds(["h"])
    whole = (entry(0, "é" * 50) + "\n").encode()
    for number in range(0, len(whole), 7):
        feeds.hear("h", "stdout", whole[number : number + 7])
    found = feeds.head("h")
    assert found and found.message == "é" * 50 and feeds.head("h") is None


@pytest.mark.parametrize("moment", ["99999999999999999999", str(253_402_300_800_000_000), "-1"])
def test_a_line_of_no_time_that_there_is_is_left_out(moment: str) -> None:
    assert read("h1", json.dumps({"__REALTIME_TIMESTAMP": moment, "MESSAGE": "m"}).encode()) is None
    assert read("h1", b'{"__REALTIME_TIMESTAMP": 1e999}') is None
    deep = "[" * 900 + '"m"' + "]" * 900
    read("h1", entry(0, json.loads(deep)).encode())


@pytest.mark.parametrize(
    "priority", ["\N{SUPERSCRIPT TWO}", "8", "-1", "", "9" * 5000, ["x"], None]
)
def test_a_priority_that_is_none_is_the_usual_one(priority: object) -> None:
    found = read("h1", entry(0, "m", PRIORITY=priority).encode())
    assert found is not None and found.priority == 6


def test_a_bad_line_of_one_host_ends_nothing(place: Place, journals: Path) -> None:
    serve(
        journals,
        1,
        entry(0, "one", PRIORITY="\N{SUPERSCRIPT TWO}"),
        json.dumps({"__REALTIME_TIMESTAMP": "9" * 20, "MESSAGE": "late"}),
        entry(1, "half \ud800", _PID="\udfff", SYSLOG_IDENTIFIER=["\ud800"]),
        "[" * 100_000,
        entry(2, "end"),
    )
    serve(journals, 2, entry(3, "other"))
    done = place.fab("logs", "--on", "even,h1")
    assert done.returncode == 0, done.stderr
    said = [line.rpartition(": ")[2] for line in done.stdout.splitlines()]
    assert said == ["one", "half ?", "end", "other"]
    done = place.fab("logs", "--on", "even,h1", "--json")
    assert done.returncode == 0 and "\\ud" not in done.stdout
    assert len(done.stdout.splitlines()) == 4


def test_what_is_no_entry_is_left_out() -> None:
    for line in (b"", b"-- No entries --", b"{}", b"[1]", b'{"__REALTIME_TIMESTAMP": "x"}'):
        assert read("h", line) is None


@pytest.mark.parametrize(
    "wanted",
    [Wanted(priority="loud"), Wanted(lines=-1), Wanted(follow=True, until="now")],
)
def test_nonsense_is_refused_before_anybody_is_asked(wanted: Wanted) -> None:
    with pytest.raises(BacklineError):
        wanted.check()
