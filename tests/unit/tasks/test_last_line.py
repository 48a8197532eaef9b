"""No error ends a command with --json without its line: also none that is no task's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest
from calling import Captured, records
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks import last_line
from backline.tasks.operator import SELECTOR, operation

ROOT = Path(__file__).parents[3]


def fab(*words: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("fab"), *words],
        cwd=ROOT,
        env={**os.environ, "BACKLINE_ENV": ""},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("stauts --json", "stauts"),
        ("status --json --watsh", "--watsh"),
        ("status --json --env", "env"),
        ("drain --json --env lab", "'on'"),
        ("run x --on all --timeout soon --json", "soon"),
        ("status lock --json", "2 tasks"),
        ("status -t soon --json", "soon"),
        ("status --on= --json", "--on was given nothing"),
        ("--hosts stream1 audit --json", "-H means nothing"),
    ],
)
def test_what_is_typed_wrongly_is_told_of_to_programs_too(words: str, why: str) -> None:
    done = fab(*words.split())
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["schema_version"], line["event"]) == (1, "error")
    assert why in line["message"] and "error" not in line["message"]
    assert line["state"] in ("nothing was changed", "nothing was started") and line["hint"]
    assert line["exit_code"] == done.returncode == 1
    assert why in done.stderr, "people are told as ever"


@pytest.mark.parametrize("words", ["stauts", "--list", "--version"])
def test_who_asked_for_no_json_gets_none(words: str) -> None:
    assert '"event"' not in fab(words).stdout


def test_a_refusal_that_nobody_reads_is_no_second_error(unread: TextIO) -> None:
    done = fab("stauts", "--json", stdout=unread)
    assert (done.returncode, done.stderr) == (1, "No idea what 'stauts' is!\n")


def test_what_people_are_told_in_three_lines_is_told_in_three_fields(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fab", "status", "lock", "--json"])
    last_line.refused(
        "error: 2 tasks: status, lock\n  state: nothing was started\n  next: one by one"
    )
    (line,) = records(capsys)
    assert (line["message"], line["hint"]) == ("2 tasks: status, lock", "one by one")
    assert line["state"] == "nothing was started"
    monkeypatch.setattr(sys, "argv", ["fab", "status", "lock"])
    last_line.refused("error: no")
    assert records(capsys) == []


def test_a_fault_of_ours_is_a_line_and_a_traceback() -> None:
    script = "from backline.tasks import last_line; last_line.always(); raise RuntimeError('oh')"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(
        [*argv, "status", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["exit_code"] == done.returncode == 1
    assert "a fault of Backline itself: RuntimeError: oh" in line["message"]
    assert done.stderr.startswith("Traceback")
    assert subprocess.run(argv, cwd=ROOT, capture_output=True, text=True).stdout == ""


def ending(end: BaseException) -> Any:
    @operation(help={})
    def task(c: Context, json: bool = False) -> None:
        """A task that ends so."""
        raise end

    return task


@pytest.fixture(autouse=True)
def signals() -> Any:
    """A task sets its own, which are not pytest's."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(130)])
def test_ctrl_c_is_a_line_too(end: BaseException, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        ending(end)(Context(), json=True)
    (line,) = records(capsys)
    assert (line["event"], line["message"]) == ("error", "interrupted")
    assert line["exit_code"] == ended.value.code == 130


@pytest.mark.parametrize(
    ("end", "count"), [(SystemExit(2), 0), (BacklineError("no", exit_code=130), 1)]
)
def test_an_error_is_told_once_and_changes_that_pend_are_none(
    end: BaseException, count: int, capsys: Captured
) -> None:
    with pytest.raises(SystemExit):
        ending(end)(Context(), json=True)
    assert len(records(capsys)) == count


def test_hosts_of_a_task_that_selects_none_are_an_error_like_any_other(capsys: Captured) -> None:
    context = Context()
    context.config[SELECTOR] = "stream1"
    with pytest.raises(SystemExit) as ended:
        ending(AssertionError("it began"))(context, json=True)
    assert ended.value.code == 1 and "-H means nothing" in records(capsys)[0]["message"]
