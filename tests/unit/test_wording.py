"""How messages speak of hosts, and that what they say is laid out in one place only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backline import wording
from backline.errors import BacklineError
from backline.tasks.command import fail
from backline.transport.port import Unreachable

PACKAGE = Path(__file__).parents[2] / "backline"


def test_one_host_is_not_one_hosts() -> None:
    assert [wording.hosts(count) for count in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]


def test_no_minute_has_sixty_seconds() -> None:
    found = [wording.lasting(seconds) for seconds in (2.46, 89.4, 119.7, 3599.6, 7199.8)]
    assert found == ["2.5 s", "89.4 s", "2 min 0 s", "60 min 0 s", "2 h 0 min"]


def test_hosts_that_say_the_same_share_a_line_and_the_first_to_speak_comes_first() -> None:
    errors = [Unreachable(f"stream{number}", "timed out") for number in (1, 2, 3)]
    errors.insert(1, Unreachable("db1", "wrong host key"))
    assert wording.said(errors) == "stream[1-3]: timed out\ndb1: wrong host key"
    assert wording.said([]) == ""


def test_further_lines_of_an_error_begin_below_its_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        fail(BacklineError("db1: no\ndb2: nor I", hosts=["db1"], state="one\ntwo", hint="a\nb"))
    assert capsys.readouterr().err.splitlines() == [
        *("error: db1: no", "       db2: nor I", "  hosts: db1"),
        *("  state: one", "         two", "  next: a", "        b"),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb é 日本", "a\tb é 日本"),
        ("\x1b[2J\r", "\\x1b[2J\\x0d"),
        ("db1\u202e1bd", "db1\\u202e1bd"),
        ("one\u2028two", "one\\u2028two"),
    ],
)
def test_no_text_steers_the_terminal_or_turns_others_around(text: str, shown: str) -> None:
    assert wording.plain(text) == shown


def test_no_message_brings_its_own_indentation() -> None:
    for path in PACKAGE.rglob("*.py"):
        found = re.search(r"\\n {2,}\"?\.join|\\n {7}", path.read_text())
        assert found is None, f"{path}: {found}"


def test_every_message_counts_hosts_by_the_same_rule() -> None:
    """`1 hosts` is what becomes of it otherwise."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name in ("hostctl", "completion"):  # they import nothing of ours
            continue
        found = re.search(r"\} hosts\b|'hosts'\}", path.read_text())
        assert found is None, f"{path}: {found}"
