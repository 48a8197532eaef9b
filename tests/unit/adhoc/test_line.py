"""What is typed into `fab shell`: every line has one meaning, or none and says so."""

from __future__ import annotations

import pytest

from backline.errors import BacklineError
from backline.operations.adhoc.line import Line, completions, parse


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("uptime\n", Line("run", "uptime")),
        ("  echo  'a  b' ", Line("run", "echo  'a  b'")),
        (" @not-a-host", Line("run", "@not-a-host")),
        (" !x", Line("run", "!x")),
        ("@stream1 df -h /", Line("run", "df -h /", "stream1")),
        ("@streaming:&zone_a:!stream3 id", Line("run", "id", "streaming:&zone_a:!stream3")),
        ("!include look.txt", Line("include", "look.txt")),
        ("\\on db*", Line("set", "db*", "on")),
        ("\\tim", None),
        ("\\timing", Line("set", "", "timing")),
        ("\\q", Line("set", "", "quit")),
        ("", Line("nothing")),
        ("# only said", Line("nothing")),
        ("@stream1", None),
        ("@ uptime", None),
        ("!x", None),
        ("!include", None),
        ("\\", None),
        ("\\t", None),
        ("\\nothing", None),
        ("\\fold x", None),
        ("\\quit now", None),
        ("\\fold ", Line("set", "", "fold")),
        ("\\timeout 5", Line("set", "5", "timeout")),
    ],
)
def test_a_line_has_one_meaning_or_none(typed: str, meant: Line | None) -> None:
    if meant is None:
        with pytest.raises(BacklineError):
            parse(typed)
    else:
        assert parse(typed) == meant


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("@st", ["streaming", "stream1", "stream2"]),
        ("@streaming:&zone_a:!str", ["streaming", "stream1", "stream2"]),
        ("\\on d", ["db1"]),
        ("\\ti", ["\\timing", "\\timeout"]),
        ("!i", ["!include "]),
        ("uptime st", []),
        ("@db1 cat st", []),
    ],
)
def test_completion_knows_hosts_groups_and_settings(before: str, expected: list[str]) -> None:
    assert completions(before, ["stream1", "stream2", "db1"], ["streaming", "edge"]) == expected
