"""What hosts and other operators say, shown to people: nothing of it steers their terminal."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backline import console, wording
from backline.console.answers import Folded, Streamed
from backline.console.journal import JournalLines
from backline.console.lists import show_finding
from backline.console.live import Board
from backline.console.progress import Progress
from backline.errors import BacklineError
from backline.operations import backups, broker, certificates, doctor, locks, maintenance
from backline.operations import releases as kept
from backline.operations.adhoc.results import Result
from backline.operations.database import look, sessions, tables
from backline.operations.logs.entry import Entry
from backline.operations.status import Row
from backline.operations.trust import Key
from backline.operations.workers import letters, pools
from backline.provision.recap import Change, Recap, Trouble
from backline.rollout.events import Event
from backline.tasks.command import fail, say
from backline.tasks.converging import View
from backline.tasks.logs import _told
from backline.tasks.shell import _tell
from tests.terminal import Terminal

ROOT = Path(__file__).parents[3]
EVIL = "\x1b[2Jevil\x1b]0;pwn\x07\x9b31m\x7f"
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SESSION = sessions.Session(
    EVIL, 1, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, 1.0, 1.0, 1, False, False, EVIL, (), EVIL
)
POOL = pools.Pool(EVIL, EVIL, EVIL, EVIL, EVIL, 1, 1, EVIL, 1, (), (), False)
LETTER = {
    "id": EVIL,
    "task": EVIL,
    "queue": EVIL,
    "why": EVIL,
    "at": 1.0,
    "count": 1,
    "requeued": 1,
}
SAID = {"command": EVIL, "actor": EVIL, "message": EVIL, "how": EVIL, "release": EVIL}
COMMAND = {"began": 1.0, "exit_code": 1, "failed": ["h1"], "sudo": False, "hosts": ["h1"], **SAID}
RUN = {**SAID, "began": 1.0, "seconds": 1.0, "run": EVIL, "plan": EVIL, "hosts": 1, "exit_code": 0}
ERROR = BacklineError(EVIL, hosts=[EVIL], state=EVIL, hint=EVIL)
MEMBER = look.Member(EVIL, EVIL, EVIL, EVIL, 1, 1, False, EVIL, {}, EVIL)


def failed() -> None:
    with pytest.raises(SystemExit):
        fail(ERROR)


def narrated() -> None:
    with console.Narrator("run", as_json=False) as narrator:
        narrator.report(Event("warning", "h1", EVIL, EVIL, EVIL))


def converged() -> None:
    view, recap = View(False, diff=True), Recap()
    recap.changes["x"] = Change(EVIL, EVIL, ["h1"], {EVIL: ["h1"]})
    recap.troubles.append(Trouble("h1", EVIL, EVIL, False))
    recap.told.append(EVIL)
    view.start("site", "stage", ["h1"], check=False)
    view.summary(recap, check=False)


def board() -> None:
    shown = Board(lambda: 0.0)
    shown.take(Event("phase", data={"phase": "batch", "number": 1, "of": 1, "hosts": ["h1"]}))
    shown.take(Event("failed", "h1", text=EVIL))
    console.console(sys.stdout).print(shown)


PRINTERS: dict[str, Callable[[], object]] = {
    "status": lambda: console.show_status([Row("h1", error=EVIL)]),
    "status, an app": lambda: console.show_status(
        [Row("h1", app=EVIL, current=EVIL, state=EVIL, lease={"holder": EVIL}, drained_by=EVIL)]
    ),
    "doctor": lambda: show_finding(doctor.Finding(EVIL, "bad", EVIL, EVIL)),
    "releases": lambda: console.show_releases([kept.Kept(EVIL, EVIL, EVIL)]),
    "lock": lambda: console.show_leases(
        [locks.Held(EVIL, EVIL, EVIL)], [locks.Left(EVIL, EVIL, ["h1"])]
    ),
    "certs": lambda: console.show_certificates(
        [certificates.Entry("h1", EVIL, EVIL, EVIL, trouble=EVIL)], 30
    ),
    "hosts.trust": lambda: console.show_keys([Key("h1", EVIL, EVIL, EVIL, "new", EVIL, EVIL)]),
    "audit.show": lambda: console.show_runs([RUN]),
    "audit.show --commands": lambda: console.show_commands([COMMAND]),
    "audit.show RUN": lambda: console.show_events([{"event": EVIL, "text": EVIL, "time": 1.0}]),
    "db.sessions": lambda: console.show_sessions([SESSION], True),
    "db.locks": lambda: console.show_locks([sessions.Knot(0, SESSION)], True),
    "db.statements": lambda: console.show_statements(
        [sessions.Statement(EVIL, EVIL, EVIL, 1, 1.0, 1.0, 1, EVIL)], True
    ),
    "db.tables": lambda: console.show_tables(
        [tables.Table(EVIL, EVIL, EVIL, 1, 1, 1, 1, None, None)]
    ),
    "db.status": lambda: console.show_database(
        look.View(EVIL, (MEMBER,), EVIL, True, False, {EVIL: EVIL}),
        [backups.Job(EVIL, True, False, False, 1.0, 1.0, EVIL, {})],
    ),
    "broker.status": lambda: console.show_broker(
        broker.View(
            (broker.Broker(EVIL, alarms=(EVIL,), critical=EVIL), broker.Broker(EVIL, error=EVIL)),
            (broker.Queue(EVIL, EVIL, 1, 1, 1, EVIL, EVIL, 1),),
        )
    ),
    "workers.status": lambda: console.show_workers(
        pools.View((POOL,), (pools.Singleton(EVIL, EVIL, EVIL, EVIL),), {EVIL: EVIL}, {}), (), EVIL
    ),
    "workers.dead": lambda: console.show_letters(letters.Letters(1, 1, (LETTER,)), EVIL),
    "maintenance.status": lambda: console.show_maintenance(
        [
            maintenance.Edge("h1", error=EVIL),
            maintenance.Edge("h2", kept={"actor": EVIL, "message": EVIL}),
        ]
    ),
    "a run": narrated,
    "a run's board": board,
    "provision": converged,
    "logs": lambda: _told("h1", EVIL),
    "a word to people": lambda: say(EVIL),
    "an error": failed,
    "an error in the shell": lambda: _tell(ERROR),
}


@pytest.mark.parametrize("name", PRINTERS)
def test_nothing_that_a_host_says_steers_a_terminal(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    PRINTERS[name]()
    said = "".join(capsys.readouterr())
    assert "evil" in re.sub(r"\s", "", said)
    assert not STEERS.search(said), ascii(said)


# What is made for speed writes by itself: and as it is, where no terminal would obey.


class Window(io.StringIO):
    """Remembers what it is shown; `tty` says whether it is a terminal."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


def answered(how: str, tty: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """What three hosts' answers are shown as."""
    monkeypatch.setenv("NO_COLOR", "1")
    window = Window(tty)
    monkeypatch.setattr(sys, "stdout", window)
    hosts = ["h1", "h2", "h3"]
    progress = Progress(hosts, Window(False), silent=True)
    view = Streamed(progress, ["h1"]) if how == "stream" else Folded(progress, hosts, how == "diff")
    said = f"{EVIL}\tend\r\nmore\n".encode()
    view.heard("h1", "stdout", said)
    view.take(Result("h1", "ok", 0, said, EVIL.encode()))
    view.take(Result("h2", "ok", 0, said, EVIL.encode()))
    view.take(Result("h3", "failed", 1, EVIL.encode() + b"3", b""))
    view.end()
    return window.getvalue()


@pytest.mark.parametrize("how", ["fold", "diff", "stream"])
def test_output_is_plain_on_a_terminal_and_as_it_is_in_a_pipe(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = answered(how, True, monkeypatch)
    assert not STEERS.search(shown), ascii(shown)
    assert r"\x1b[2Jevil\x1b]0;pwn\x07\x9b31m\x7f" + "\tend\n" in shown
    assert EVIL in answered(how, False, monkeypatch)


def test_a_reason_is_plain_in_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(False)
    monkeypatch.setattr(sys, "stdout", window)
    view = Streamed(Progress(["h1"], Window(False), silent=True), ["h1"])
    view.take(Result("h1", "unreachable", why=EVIL))
    assert "evil" in window.getvalue() and not STEERS.search(window.getvalue())


def test_a_long_line_is_broken_between_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(False)
    monkeypatch.setattr(sys, "stdout", window)
    view = Streamed(Progress(["h1"], Window(False), silent=True), ["h1"])
    whole = ("x" * 65535 + "é" * 3).encode()
    view.heard("h1", "stdout", whole[:65538])
    view.heard("h1", "stdout", whole[65538:] + b"\n")
    shown = [line.removeprefix("h1 | ") for line in window.getvalue().splitlines()]
    assert "".join(shown) == whole.decode() and len(shown) == 2


def test_a_line_of_a_journal_ends_where_its_host_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(False)
    monkeypatch.setattr(sys, "stdout", window)
    message = "one\r\ntwo\u2028still\x0btwo\n"
    JournalLines(["h1"]).show(Entry(1, "h1", "nginx", "1", 6, message))
    first, second, end = window.getvalue().split("\n")
    assert first.endswith(": one") and second.endswith(r"  two\u2028still\x0btwo") and not end


@pytest.mark.parametrize("field", ["source", "pid", "message"])
def test_every_field_of_a_journal_is_plain(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(False)
    monkeypatch.setattr(sys, "stdout", window)
    fields: dict[str, Any] = {"source": "nginx", "pid": "1", "message": "", field: EVIL}
    JournalLines(["h1"]).show(Entry(1, "h1", priority=6, **fields))
    assert "evil" in window.getvalue() and not STEERS.search(window.getvalue())


@pytest.mark.parametrize("tty", [True, False])
def test_an_answer_of_the_database_is_plain_on_a_terminal(tty: bool) -> None:
    from backline.console import paint

    shown = paint.shown(f"{EVIL}\n", Window(tty))
    assert shown == (wording.plain(EVIL) + "\n" if tty else f"{EVIL}\n")


def test_an_error_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo\tthree")
    assert capsys.readouterr().err == "  one\ntwo\tthree\n"


def test_a_real_terminal_is_not_steered_by_status(tmp_path: Path) -> None:
    """The table as `fab status` prints it, where rich would colour it."""
    script = (
        "from backline import console; from backline.operations.status import Row; "
        f"console.show_status([Row('h1', error={EVIL!r})])"
    )
    words = [sys.executable, "-c", script]
    with Terminal(words, {**os.environ, "TERM": "xterm", "COLUMNS": "120"}, ROOT) as terminal:
        assert terminal.process.wait(30) == 0
        shown = terminal.whole()
    assert r"\x1b[2Jevil" in shown and "\x1b[2J" not in shown and "\x1b]0;" not in shown
