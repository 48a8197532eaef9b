"""Output that nobody reads: the real commands, in a pipe whose reader has gone."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from backline.provision.recap import Recap
from backline.tasks.converging import View

ROOT = Path(__file__).parents[3]
KILLED = 141
"""What a shell says of a program that SIGPIPE killed."""
LOST = "could not write the output: No space left on device"


def run(program: str, *words: str, unread: TextIO, **environment: str) -> tuple[int, str]:
    """Runs `fab` or `inv` into the pipe; its exit code and what it said on stderr."""
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *words],
        cwd=ROOT,
        env={**os.environ, "BACKLINE_ENV": "", "PYTHONUNBUFFERED": "", **environment},
        stdin=subprocess.DEVNULL,
        stdout=unread,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def stage(tmp_path: Path) -> dict[str, str]:
    """An environment of one host, on which nothing listens."""
    folder = tmp_path / "inventory" / "stage"
    folder.mkdir(parents=True)
    host = "{ansible_host: 127.0.0.1, ansible_port: 1, ansible_user: deploy}"
    (folder / "hosts.yml").write_text(f"all: {{hosts: {{h1: {host}}}}}\n")
    (folder / "known_hosts").touch()
    return {"BACKLINE_ROOT": str(tmp_path), "BACKLINE_ENV": "stage"}


@pytest.mark.parametrize(("program", "part"), [("fab", "audit"), ("inv", "lab")])
def test_a_list_that_nobody_reads_ends_quietly(program: str, part: str, unread: TextIO) -> None:
    assert run(program, "-l", unread=unread, PYTHONUNBUFFERED="1") == (KILLED, "")
    # Less than a buffer: it was done before anybody could have noticed.
    assert run(program, "-l", part, unread=unread) == (0, "")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_status_that_nobody_reads_ends_quietly(
    flags: list[str], stage: dict[str, str], unread: TextIO
) -> None:
    assert run("fab", "status", *flags, unread=unread, **stage) == (KILLED, "")


def test_a_reader_that_had_enough_is_no_error(stage: dict[str, str]) -> None:
    bin_folder = Path(sys.executable).parent
    line = f"set -o pipefail; '{bin_folder}/fab' -l | head -1"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Available tasks:\n", "")
    assert done.returncode in (0, KILLED)


def test_an_error_is_still_told_where_somebody_listens(unread: TextIO) -> None:
    code, said = run("fab", "status", "--json", unread=unread)
    assert code == 1 and said.startswith("error: which environment?")
    assert "Traceback" not in said


def test_another_pipe_that_breaks_is_an_error_like_any_other() -> None:
    script = "from backline.tasks import pipe; pipe.end_quietly(); raise BrokenPipeError('ssh')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "BrokenPipeError: ssh" in done.stderr


# Output that is lost for another reason: a disk that is full, a descriptor that is closed.


@pytest.fixture
def full() -> Iterator[TextIO]:
    """A file on a disk without room."""
    with Path("/dev/full").open("w") as file:
        yield file


@pytest.mark.parametrize("words", ["status", "status --json", "hosts.list", "doctor", "-l"])
def test_output_that_is_lost_is_one_clear_line(
    words: str, stage: dict[str, str], full: TextIO
) -> None:
    code, said = run("fab", *words.split(), unread=full, **stage)
    assert (code, said.splitlines()[0]) == (1, f"error: {LOST}")
    assert "Traceback" not in said and said.count(LOST) == 1


@pytest.mark.parametrize("flags", [[], ["--json"], ["--stream"]])
def test_hosts_that_failed_are_named_beside_the_output_that_is_lost(
    flags: list[str], stage: dict[str, str], full: TextIO
) -> None:
    code, said = run("fab", "run", "true", "--on", "h1", *flags, unread=full, **stage)
    assert code == 1 and "Traceback" not in said
    assert "error: 1 unreachable of 1 host" in said and said.count(LOST) == 1


@pytest.mark.parametrize("words", ["run true --on h1", "run true --on h1 --json", "hosts.list"])
def test_what_cannot_be_told_on_stderr_stops_nothing(
    words: str, stage: dict[str, str], full: TextIO
) -> None:
    def run(err: TextIO | int) -> tuple[int, str]:
        fab = Path(sys.executable).with_name("fab")
        done = subprocess.run(
            [fab, *words.split()],
            cwd=ROOT,
            env={**os.environ, **stage},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            check=False,
        )
        return done.returncode, re.sub(r'"(at|run)": "[^"]*"|"seconds": [\d.]+', "", done.stdout)

    heard, unheard = run(subprocess.PIPE), run(full)
    assert unheard == heard and heard[1]


def test_without_standard_output_nothing_is_begun(stage: dict[str, str]) -> None:
    fab = Path(sys.executable).with_name("fab")
    done = subprocess.run(
        ["sh", "-c", f"'{fab}' run true --on h1 >&-; echo $? >&2; '{fab}' status >&- 2>&- <&-"],
        cwd=ROOT,
        env={**os.environ, **stage},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stderr.startswith("error: standard output is closed")
    assert "nothing was started" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "1" and done.returncode == 1
    trail = Path(stage["BACKLINE_ROOT"]) / ".backline" / "stage" / "audit.jsonl"
    assert not trail.exists()


CHANGES = """
import sys
from invoke.context import Context
from backline.tasks import operator, pipe
from backline.tasks.command import command, say
from backline.inventory import Environment

pipe.end_quietly()

@command()
def change(c):
    if "unasked" not in sys.argv:
        operator.confirm(Environment("stage", None, {}, {}, False, ()), 1, 0, False)
    print("first", flush=True)
    say("second")
    open(sys.argv[1], "w").close()

change(Context())
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("where", ["pipe", "disk"])
def test_what_has_begun_to_change_hosts_goes_on_though_nobody_reads(
    stream: str, where: str, tmp_path: Path, unread: TextIO, full: TextIO
) -> None:
    def change(*words: str) -> int:
        streams = {stream: unread if where == "pipe" else full}
        argv = [sys.executable, "-c", CHANGES, str(tmp_path / "done"), *words]
        return subprocess.run(argv, cwd=ROOT, check=False, **streams).returncode  # type: ignore[call-overload,no-any-return]

    if where == "pipe":
        assert change("unasked") == KILLED and not (tmp_path / "done").exists()
    assert change() == (1 if (where, stream) == ("disk", "stdout") else 0)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_playbook_that_nobody_reads_is_not_cut_off(as_json: bool, unheard: None) -> None:
    view, recap = View(as_json, diff=False), Recap()
    view.start("site", "stage", ["h1"], check=False)
    with view:
        view.take(recap, {"event": "playbook_on_play_start", "event_data": {"name": "Base"}})
        view.take(
            recap,
            {
                "event": "runner_on_failed",
                "event_data": {"host": "h1", "task": "Copy", "res": {"msg": "disk full"}},
            },
        )
    view.summary(recap, check=False)
    assert recap.failed() == ["h1"]


# What is piped into us.

READS = """
import hashlib, sys
from invoke.context import Context
from backline.tasks.operator import operation
from backline.tasks.run import piped

@operation()
def read(c):
    print(hashlib.sha256(piped(float(sys.argv[1]))).hexdigest())

read(Context())
"""


def reader(seconds: float) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", READS, str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=ROOT, **pipes)  # type: ignore[call-overload,no-any-return]


def test_a_pipe_that_nobody_closes_is_waited_for_as_long_as_the_timeout_says() -> None:
    """CI and supervisors leave one open; a task that waited for its end would never have one."""
    for first in (b"", b"half"):
        process = reader(0.5)
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(first)
        process.stdin.flush()
        assert process.wait(30) == 1
        err = process.stderr.read().decode()
        assert "the input did not end within 0.5 s" in err and "< /dev/null" in err
        assert "state: nothing was run" in err and process.stdout.read() == b""
        process.stdin.close()


def test_input_may_be_big_and_come_slowly() -> None:
    process, whole = reader(20), os.urandom(6_000_000)
    assert process.stdin and process.stdout
    for part in (whole[:1], whole[1:4_000_000], whole[4_000_000:]):
        process.stdin.write(part)
        process.stdin.flush()
        time.sleep(0.3)
    process.stdin.close()
    assert process.wait(30) == 0
    assert process.stdout.read().decode().strip() == hashlib.sha256(whole).hexdigest()
