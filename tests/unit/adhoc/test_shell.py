"""`fab shell` against real sshds: connections stay, mistakes do not end a sitting, Ctrl-C ends a command."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest
from loop import COUNT, Place, ended, wait_for, write

WAIT = 25


def logins(place: Place) -> int:
    """How many connections the sshds have let in."""
    return sum(
        path.read_text().count("Accepted publickey") for path in place.sshd.folder.glob("*.log")
    )


def talk(place: Place, *words: str) -> pexpect.spawn:
    child = pexpect.spawn(
        place.argv[0],
        ["shell", *words],
        env={**place.environment, "TERM": "dumb"},
        timeout=WAIT,
        encoding="utf-8",
        dimensions=(40, 200),
    )
    child.delaybeforesend = 0
    return child


def test_lines_that_are_piped_in_are_done_on_the_same_connections(place: Place) -> None:
    before = logins(place)
    typed = b"echo one\n# said\n\n@h1 echo two\n\\on even\necho three; exit 2\necho four\n"
    done = place.fab("shell", "--on", "apps", stdin=typed)
    assert [line for line in done.stdout.splitlines() if line] == [
        *("── h[1-4]  4 hosts, exit 0", "one", "── h1  1 host, exit 0", "two"),
        *("── h[2,4]  2 hosts, exit 2", "three", "── h[2,4]  2 hosts, exit 0", "four"),
    ]
    assert done.returncode == 1 and "1 command did not end with 0" in done.stderr
    assert logins(place) - before == COUNT


def test_a_line_that_means_nothing_ends_a_script_before_the_rest_of_it(place: Place) -> None:
    done = place.fab("shell", "--on", "h1", stdin=b"echo a\n@h99 echo b\necho c\n")
    assert done.returncode == 1 and "input, line 2" in done.stderr
    assert done.stdout.splitlines()[1:] == ["a"]


def test_a_line_that_is_no_text_fails_and_the_sitting_goes_on(place: Place) -> None:
    for more in ([], ["--dry-run"]):
        done = place.fab("shell", "--on", "h1", *more, stdin=b"echo \xff\necho after\n")
        assert done.returncode == 1 and "not UTF-8" in done.stderr, done.stderr
        assert "1 command did not end with 0" in done.stderr and "Traceback" not in done.stderr
        assert done.stdout.endswith("after\n")


@pytest.mark.parametrize("words", [["--timeout", "0"], ["--fanout", "-3"]])
def test_settings_that_make_no_sense_are_refused_at_once(place: Place, words: list[str]) -> None:
    done = place.fab("shell", "--on", "h1", *words, stdin=b"")
    assert done.returncode == 1 and f"{words[0]} " in done.stderr and "number" in done.stderr


def test_files_are_included_and_do_not_include_each_other_for_ever(
    place: Place, tmp_path: Path
) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("echo inside\n")
    outer.write_text(f"\\stream\n!include {inner}\n")
    done = place.fab("shell", "--on", "h1", stdin=f"!include {outer}\necho after\n".encode())
    assert done.stdout == "h1 | inside\nh1 | after\n", done.stderr
    outer.write_text(f"!include {outer}\n")
    done = place.fab("shell", "--on", "h1", stdin=f"!include {outer}\n".encode())
    assert done.returncode == 1 and "include each other" in done.stderr


def test_a_line_of_a_file_ends_where_its_line_does(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("echo 'a\u2028b'\n\\timeout \u00b2\n")
    done = place.fab("shell", "--on", "h1", stdin=f"!include {path}\n".encode())
    assert "a\u2028b\n" in done.stdout and "lines, line 2" in done.stderr, done.stderr
    assert done.returncode == 1 and "number of seconds from 1 to 86400" in done.stderr


def test_quit_in_a_file_ends_the_sitting(place: Place, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("echo inside\n\\quit\necho never\n")
    outer.write_text(f"!include {inner}\necho never\n")
    done = place.fab("shell", "--on", "h1", stdin=f"!include {outer}\necho never\n".encode())
    assert done.stdout.splitlines()[1:] == ["inside"] and done.returncode == 0, done.stderr


def test_the_prompt_is_no_data(place: Place, tmp_path: Path) -> None:
    """A person types, a program reads."""
    out = tmp_path / "out"
    line = f"'{place.argv[0]}' shell --on h1 --json > {out}"
    child = pexpect.spawn("sh", ["-c", line], env=place.environment, timeout=WAIT, encoding="utf-8")
    child.expect_exact("loop h1 (1)> ")
    child.sendline("echo x")
    child.expect_exact("loop h1 (1)> ")
    child.sendline("\\quit")
    child.expect(pexpect.EOF)
    assert [json.loads(found)["stdout"] for found in out.read_text().splitlines()] == ["x\n"]


def test_json_has_a_line_for_each_host_and_command(place: Place) -> None:
    done = place.fab("shell", "--on", "h1,h2", "--json", stdin=b"echo x\n@h1 echo y\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((entry["host"], entry["stdout"]) for entry in found) == [
        *(("h1", "x\n"), ("h1", "y\n"), ("h2", "x\n")),
    ]


def test_a_rehearsal_shows_for_each_line_who_would_run_it_and_connects_to_nobody(
    place: Place, tmp_path: Path
) -> None:
    """Also in production, where it asks nothing: there is nothing to confirm."""
    more = tmp_path / "more"
    more.write_text("echo three\n")
    typed = f"echo one\n@h1 echo two\n\\on even\n!include {more}\n".encode()
    write(place.root, place.sshd, confirm=True)
    before = logins(place)
    try:
        done = place.fab("shell", "--on", "apps", "--dry-run", stdin=typed)
        as_json = place.fab("shell", "--on", "h1", "--dry-run", "--json", "--sudo", stdin=b"id\n")
    finally:
        write(place.root, place.sshd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *("4 hosts: h[1-4]", "as the deploy user: echo one"),
        *("1 host: h1", "as the deploy user: echo two"),
        *("2 hosts: h[2,4]", "as the deploy user: echo three"),
    ]
    (line,) = map(json.loads, as_json.stdout.splitlines())
    assert line["event"] == "plan" and line["hosts"] == ["h1"] and line["sudo"] is True
    assert logins(place) == before


def test_the_prompt_has_history_and_completion(place: Place) -> None:
    child = talk(place, "--on", "apps")
    child.expect_exact("loop apps (4)> ")
    child.sendline("\\timing")
    child.expect_exact("timing is on")
    child.send("@ev\t")
    child.expect_exact("@even")
    child.sendline(" echo here")
    child.expect_exact("── h[2,4]  2 hosts, exit 0")
    child.expect(r"\d+\.\d\d\d s, 2 hosts")
    child.sendline("@h99 true")
    child.expect_exact("'h99' is neither a group nor a host")
    child.expect_exact("(4)> ")
    child.sendline("\\quit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    history = place.root / ".backline" / "loop" / "shell_history"
    assert "@even echo here" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_the_history_has_no_line_behind_a_space_and_all_of_two_shells(place: Place) -> None:
    history = place.root / ".backline" / "loop" / "shell_history"
    history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    history.write_text("echo before\n")
    history.chmod(0o600)
    one, two = talk(place, "--on", "h1", "--dry-run"), talk(place, "--on", "h2", "--dry-run")
    for child, text in (
        (one, "echo first"),
        (two, "echo second"),
        (two, " echo secret"),
        (one, "echo third"),
    ):
        child.expect_exact("dry run> ")
        child.sendline(text)
        child.expect_exact(f"as the deploy user: {text.strip()}")
    for child in (one, two):
        child.sendline("\\quit")
        child.expect(pexpect.EOF)
        child.close()
    kept = history.read_text().splitlines()
    assert kept == ["echo before", "echo first", "echo second", "echo third", "\\quit", "\\quit"]
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_ends_the_command_there_and_not_the_sitting(place: Place, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    child = talk(place, "--on", "h1")
    child.expect_exact("> ")
    child.sendline(f"sh -c 'echo $$ >{marker}; sleep 60; :'")
    wait_for(lambda: marker.exists() and marker.read_text())
    child.sendintr()
    child.expect_exact("what was running on the hosts was asked to end")
    assert ended(marker)
    child.sendline("echo and on")
    child.expect_exact("1 host, exit 0")
    child.expect_exact("and on")
    child.sendeof()
    child.expect(pexpect.EOF)


def test_ctrl_c_within_a_file_is_told_of_once_and_ends_the_file(
    place: Place, tmp_path: Path
) -> None:
    marker, inner, outer = tmp_path / "pid", tmp_path / "inner", tmp_path / "outer"
    inner.write_text(f"sh -c 'echo $$ >{marker}; sleep 60; :'\necho never\n")
    outer.write_text(f"!include {inner}\necho never\n")
    child = talk(place, "--on", "h1")
    child.expect_exact("> ")
    child.sendline(f"!include {outer}")
    wait_for(lambda: marker.exists() and marker.read_text())
    child.sendintr()
    child.expect_exact("error: interrupted")
    child.expect_exact("(1)> ")
    assert "error: " not in child.before and "never" not in child.before
    child.sendeof()
    child.expect(pexpect.EOF)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_shell_that_is_killed_leaves_nothing(place: Place, tmp_path: Path, number: int) -> None:
    marker = tmp_path / "pid"
    process = subprocess.Popen(
        [*place.argv, "shell", "--on", "h1"],
        env=place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin
    process.stdin.write(f"sh -c 'echo $$ >{marker}; sleep 60; :'\n".encode())
    process.stdin.close()
    wait_for(lambda: marker.exists() and marker.read_text())
    process.send_signal(number)
    process.wait(10)
    assert ended(marker)


def test_production_is_asked_for_the_number_of_hosts(place: Place) -> None:
    write(place.root, place.sshd, confirm=True)
    try:
        refused = place.fab("shell", "--on", "apps", stdin=b"echo ran\n")
        assert refused.returncode == 6 and "ran" not in refused.stdout
        assert place.fab("run", "echo ran", "--on", "apps").returncode == 6
        wrong = place.fab("run", "echo ran", "--on", "apps", "--yes", "5")
        assert wrong.returncode == 6 and "ran" not in wrong.stdout
        assert place.fab("run", "echo ran", "--on", "apps", "--yes", "4").returncode == 0
        # Answered for these four; a line for others is asked about again.
        typed = b"echo ran\n@h1 echo again\n@dead echo never\n"
        done = place.fab("shell", "--on", "apps", "--yes", "4", stdin=typed)
        assert done.returncode == 6 and "again" in done.stdout and "never" not in done.stdout
    finally:
        write(place.root, place.sshd)
