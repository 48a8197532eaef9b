"""`fab run` against real sshds: what comes back, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loop import COUNT, Place, ended, wait_for

from backline.api import Fleet
from backline.inventory import load

SSHD = (
    "p=$$; while ! grep -q '^Name:.*sshd' /proc/$p/status; "
    "do p=$(ps -o ppid= -p $p | tr -d ' '); done"
)
"""Finds the sshd, in a command on a host, that serves this connection."""
ALL = f"h[1-{COUNT}]"


def result(line: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(line)
    return found


def test_hosts_that_say_the_same_are_folded(place: Place) -> None:
    done = place.fab("run", "echo same; echo oops >&2", "--on", "apps")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"── {ALL}  4 hosts, exit 0", "same", "stderr: oops"]


def test_exit_codes_and_unreachable_hosts_are_told_apart(place: Place) -> None:
    command = 'case $SSH_CONNECTION in *" 127.0.1.2 "*) exit 3;; esac; echo well'
    done = place.fab("run", command, "--on", "all")
    assert done.returncode == 1
    heads = [line for line in done.stdout.splitlines() if line.startswith("──")]
    assert heads == [
        "── h[1,3-4]  3 hosts, exit 0",
        "── h2  1 host, exit 3",
        "── dead  1 host, unreachable (refused)",
    ]
    assert "1 failed, 1 unreachable of 5 hosts" in done.stderr and "hosts: dead,h2" in done.stderr


def test_differences_are_from_the_majority(place: Place) -> None:
    command = 'echo one; case $SSH_CONNECTION in *" 127.0.1.2 "*) echo TWO;; *) echo two;; esac'
    lines = place.fab("run", command, "--on", "apps", "--diff").stdout.splitlines()
    assert lines[:3] == ["── h[1,3-4]  3 hosts, exit 0", "one", "two"]
    assert lines[3] == "── h2  1 host, exit 0" and lines[-2:] == ["-two", "+TWO"]


def test_hosts_that_differ_beyond_what_is_kept_do_not_say_the_same(place: Place) -> None:
    """`yes` for a MiB, and then one of them has more to say."""
    command = (
        "head -c 1048576 /dev/zero | tr '\\0' y; "
        'case $SSH_CONNECTION in *" 127.0.1.1 "*) echo DIFF;; *) echo same;; esac'
    )
    words = ("run", command, "--on", "h1,h2,h3")
    heads = [line for line in place.fab(*words).stdout.splitlines() if line.startswith("──")]
    assert heads == ["── h[2-3]  2 hosts, exit 0", "── h1  1 host, exit 0"]
    last = place.fab(*words, "--diff").stdout.splitlines()[-2:]
    assert last[0] == heads[1] and "stdout beyond what is kept" in last[1]


def test_lines_are_streamed_as_they_come(place: Place) -> None:
    process = subprocess.Popen(
        [*place.argv, "run", "printf 'now\\nlater'; sleep 20", "--on", "h1", "--stream"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout
    began = time.monotonic()
    assert process.stdout.readline() == b"h1 | now\n"
    assert time.monotonic() - began < 15
    process.send_signal(signal.SIGINT)
    assert b"h1 | later\n" in process.stdout.read()
    assert process.wait(10) == 130


@pytest.mark.parametrize(
    "command",
    [
        """printf '%s' "it's \\"quoted\\"" '$HOME' \\\\ `echo x`""",
        "printf '%s' 'a\nb;c|d&e' \"${NONE-none}\"",
        "printf %s $((6 * 7)) ; # a comment",
        "cat <<'END'\n$not 'expanded'\nEND",
    ],
)
def test_quoting_survives(place: Place, command: str) -> None:
    here = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    done = place.fab("run", command, "--on", "h1", "--json")
    assert result(done.stdout)["stdout"] == here


def test_input_reaches_every_host_whole(place: Place) -> None:
    data = os.urandom(3_000_000)
    done = place.fab("run", "sha256sum", "--on", "h1,h2", stdin=data)
    digest = subprocess.run(["sha256sum"], input=data, capture_output=True).stdout.decode()
    assert done.stdout.splitlines() == ["── h[1-2]  2 hosts, exit 0", digest.strip()], done.stderr


def test_input_that_is_too_long_runs_nothing(place: Place) -> None:
    done = place.fab("run", "cat", "--on", "h1", stdin=b"x" * ((16 << 20) + 1))
    assert done.returncode == 1 and "longer than 16 MiB" in done.stderr


def test_no_input_is_no_input(place: Place) -> None:
    assert place.fab("run", "cat; echo end", "--on", "h1").stdout.splitlines()[1:] == ["end"]


def test_a_deadline_ends_what_runs_there_and_others_are_shown(place: Place, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    command = (
        f'case $SSH_CONNECTION in *" 127.0.1.1 "*) echo begun; sh -c "echo \\$\\$ >{marker}; '
        'sleep 60; :" & wait;; esac'
    )
    began = time.monotonic()
    done = place.fab("run", command, "--on", "apps", "--timeout", "3")
    took = time.monotonic() - began
    assert done.returncode == 1 and "1 not done in time of 4 hosts" in done.stderr
    assert "── h1  1 host, not done in time\nbegun\n" in done.stdout
    assert took < 3 + 2 + 3, f"{took} s"  # and what it takes to start on a busy machine
    assert ended(marker)


def test_what_had_come_of_a_host_that_was_lost_is_shown(place: Place) -> None:
    """Its sshd is killed, then frozen: then the deadline passes without a word."""
    begun = "echo begun; echo oops >&2"
    for number, kind in ((9, "lost"), (19, "deadline")):
        later = 'setsid sh -c "sleep 6; kill -9 $p" >/dev/null 2>&1 </dev/null &'
        command = f"{begun}; {SSHD}; {later} sleep 0.3; kill -{number} $p; sleep 9"
        words = ("run", command, "--on", "h1", "--timeout", "3")
        found = result(place.fab(*words, "--json").stdout.splitlines()[0])
        assert found["error"]["code"] == kind, found
        assert (found["stdout"], found["stderr"]) == ("begun\n", "oops\n")
        shown = place.fab(*words).stdout
        assert f"unreachable ({kind})" in shown and "begun\nstderr: oops\n" in shown


def test_what_had_come_before_ctrl_c_is_shown(place: Place) -> None:
    process = subprocess.Popen(
        [*place.argv, "run", "echo begun; echo oops >&2; sleep 30", "--on", "h1,h2"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "── h[1-2]  2 hosts, interrupted\n" in said.decode()
    assert b"begun\nstderr: oops\n" in said


def test_ctrl_c_waits_for_no_frozen_host_and_says_what_may_go_on_there(
    place: Place, tmp_path: Path
) -> None:
    later = "setsid sh -c 'sleep 8; kill -CONT '$p >/dev/null 2>&1 </dev/null &"
    freeze = f"{SSHD}; {later} echo begun; sleep 0.3; touch {tmp_path}/frozen; kill -STOP $p"
    command = f'case $SSH_CONNECTION in *" 127.0.1.1 "*) {freeze};; esac; sleep 30'
    process = subprocess.Popen(
        [*place.argv, "run", command, "--on", "h1,dead"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: (tmp_path / "frozen").exists())
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130 and time.monotonic() - began < 5
    assert b"begun" in out
    said = " ".join(err.decode().split())
    assert "asked to end" in said and "when it notices: within 90 s, or when its 60 s" in said
    assert "nothing was sent to the unreachable hosts" in said


def test_a_killed_operator_leaves_nothing_on_the_hosts(place: Place, tmp_path: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGHUP, signal.SIGINT):
        marker = tmp_path / f"pid{number}"
        process = subprocess.Popen(
            [*place.argv, "run", f"sh -c 'echo $$ >{marker}; sleep 60; :'", "--on", "h1"],
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda marker=marker: marker.exists() and marker.read_text())  # type: ignore[misc]
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130)
        assert ended(marker), number
        if number != signal.SIGKILL:
            assert b"what was running on the hosts was asked to end" in said


def test_a_command_may_begin_with_a_dash(place: Place) -> None:
    found = result(place.fab("run", "-n", "--on", "h1", "--json").stdout.splitlines()[0])
    assert found["code"] == 127 and "requires an argument" not in str(found["stderr"])


def test_a_command_that_is_no_text_is_refused_in_words(place: Place) -> None:
    argv = [os.fsencode(word) for word in place.argv]
    done = subprocess.run(
        [*argv, b"run", b"echo \xff", b"--on", b"h1"],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1 and done.stdout == b""
    assert b"not UTF-8" in done.stderr and b"Traceback" not in done.stderr


def test_a_typing_error_never_means_all(place: Place) -> None:
    for words in (["--on", "aps"], ["--on", ""], [], ["--on", "apps:!h99"]):
        done = place.fab("run", "echo ran", *words)
        assert done.returncode == 1 and "ran" not in done.stdout, words
        assert "next: " in done.stderr


def test_dash_h_selects(place: Place) -> None:
    done = place.fab("-H", "even", "run", "echo x")
    assert done.stdout.startswith("── h[2,4]  2 hosts, exit 0"), done.stderr


def test_a_dry_run_connects_to_nobody(place: Place) -> None:
    done = place.fab("run", "echo x", "--on", "all", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "5 hosts: dead,h[1-4]\nas the deploy user: echo x\n"


def test_files_hold_all_that_each_host_wrote(place: Place, tmp_path: Path) -> None:
    (tmp_path / "h1.err").write_text("of an earlier run")
    command = 'head -c 3000000 /dev/zero; [ -z "${SSH_CONNECTION##*127.0.1.2 *}" ] && echo x >&2'
    done = place.fab("run", command, "--on", "h1,h2", "--outdir", str(tmp_path), "--json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h1.out", "h2.err", "h2.out"]
    assert (tmp_path / "h1.out").stat().st_size == 3_000_000
    kept = [result(line) for line in done.stdout.splitlines()[:2]]
    assert all(entry["cut"] and len(str(entry["stdout"])) == 1 << 20 for entry in kept)


def test_a_full_disk_here_ends_no_command_there(place: Place, tmp_path: Path) -> None:
    """Here: files that may have a MiB."""

    def fab(command: str) -> subprocess.CompletedProcess[str]:
        words = ["run", command, "--on", "h1,h2", "--outdir", str(tmp_path)]
        limited = ["bash", "-c", 'ulimit -f 1024; exec "$@"', "bash", *place.argv, *words]
        environment, quiet = place.environment, subprocess.DEVNULL
        return subprocess.run(
            limited, env=environment, stdin=quiet, capture_output=True, text=True, timeout=60
        )

    more = f"head -c 2000000 /dev/zero | tr '\\0' x; touch {tmp_path}/done"
    done = fab(more)
    assert done.returncode == 1 and (tmp_path / "done").exists() and "exit 0" in done.stdout
    assert "not all output was kept" in done.stderr and "File too large" in done.stderr
    assert "and 1 more host" in done.stderr and "hosts: h[1-2]" in done.stderr
    done = fab(f"{more}; exit 3")
    assert "2 failed of 2 hosts" in done.stderr and "not all output was kept" in done.stderr
    (tmp_path / "h3.out").mkdir()
    done = place.fab("run", "echo ran", "--on", "h3", "--outdir", str(tmp_path))
    assert done.returncode == 1 and "ran" not in done.stdout and "h3.out" in done.stderr


def test_files_are_our_own_and_nobody_elses(place: Place, tmp_path: Path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "there"
    precious.write_text("mine")
    folder.mkdir(mode=0o755)
    for name in ("h1.out", "h1.err"):
        (folder / name).symlink_to(precious)
    home = replace(place, environment={**place.environment, "HOME": str(tmp_path)})
    done = home.fab("run", "echo x; echo y >&2", "--on", "h1", "--outdir", "~/there")
    assert done.returncode == 0, done.stderr
    assert precious.read_text() == "mine"
    files = {path.name: path for path in folder.iterdir()}
    assert (files["h1.out"].read_text(), files["h1.err"].read_text()) == ("x\n", "y\n")
    assert all(path.lstat().st_mode & 0o777 == 0o600 for path in files.values())


def test_no_host_is_begun_after_too_many_failures(place: Place) -> None:
    done = place.fab("run", "exit 1", "--on", "apps", "--fanout", "1", "--max-fail", "2", "--json")
    states = [result(line).get("state") for line in done.stdout.splitlines()]
    assert states[:4] == ["failed", "failed", "skipped", "skipped"]


def test_what_ignores_its_deadline_is_late_as_well(place: Place) -> None:
    command = "trap '' TERM; while :; do sleep 0.1; done"
    done = place.fab("run", command, "--on", "h1", "--timeout", "2", "--json")
    found = result(done.stdout.splitlines()[0])
    assert found["state"] == "timeout" and float(str(found["seconds"])) < 4


def read_by(
    place: Place, command: str, flags: str, reader: str
) -> subprocess.CompletedProcess[bytes]:
    """`fab run COMMAND FLAGS | READER`: what the reader says, and how fab ended."""
    words = f'{place.argv[0]} run "$COMMAND" {flags} | {reader}; exit ${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", words],
        env={**place.environment, "COMMAND": command},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def test_a_command_goes_on_when_nobody_reads_any_more(place: Place, tmp_path: Path) -> None:
    command = f"echo 1; sleep 1; echo 2; sleep 0.5; touch {tmp_path}/done; exit 3"
    done = read_by(place, command, "--on h1 --stream", "head -n 1")
    assert done.stdout == b"h1 | 1\n" and (tmp_path / "done").exists()
    assert done.returncode == 1 and b"1 failed of 1 host" in done.stderr


def test_a_slow_reader_makes_no_host_late(place: Place, tmp_path: Path) -> None:
    """`| less`: the host has done its part in time, and we could not take what it said."""
    command = f"seq 200000; touch {tmp_path}/$$"
    done = read_by(place, command, "--on h1,h2 --stream --timeout 3", "(sleep 9; wc -l)")
    assert len(list(tmp_path.iterdir())) == 2
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == b"400000"


def test_as_root_it_is_ansibles_user_who_asks_sudo(place: Place) -> None:
    sudo = place.programs / "sudo"
    sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-n --" ] || exit 1\nshift 2; BECAME=root exec "$@"\n')
    sudo.chmod(0o755)
    say = "echo became=${BECAME-nobody}"
    assert "became=root" in place.fab("run", say, "--on", "h1", "--sudo").stdout
    assert "became=nobody" in place.fab("run", say, "--on", "h1").stdout
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    refused = place.fab("run", say, "--on", "h1", "--sudo")
    assert refused.returncode == 1 and "ansible_user" in refused.stderr
    sudo.unlink()
    environment = load("loop", place.root / "inventory")
    hosts = {name: replace(host, admin="ada") for name, host in environment.hosts.items()}
    with Fleet(replace(environment, hosts=hosts)) as fleet:
        assert fleet.reach(sudo=True).targets["h1"].user == "ada"
        assert fleet.reach().targets["h1"].user == environment.hosts["h1"].user


def test_every_command_is_in_the_audit_trail(place: Place) -> None:
    place.fab("run", "exit 9", "--on", "h1", "--message", "to see")
    begin, end = place.audit[-2:]
    assert (begin["event"], begin["command"], begin["on"]) == ("command", "exit 9", "h1")
    assert begin["message"] == "to see" and begin["hosts"] == ["h1"] and begin["actor"]
    assert (end["run"], end["exit_code"], end["failed"]) == (begin["run"], 1, ["h1"])
    assert place.fab("audit.verify", "--local").returncode == 0
    listed = place.fab("audit.show", "--commands", "--limit", "1").stdout
    assert "failed on h1  exit 9" in listed and "why: to see" in listed and "on h1" in listed
    found = result(place.fab("audit.show", "--commands", "--limit", "1", "--json").stdout)
    assert (found["command"], found["exit_code"], found["failed"]) == ("exit 9", 1, ["h1"])


def test_whoever_runs_it_the_run_has_a_name_that_can_be_typed_and_is_a_folder_s(
    place: Place,
) -> None:
    """As the runs of a rollout are named: domains bring users with backslashes and spaces."""
    ada = replace(place, environment={**place.environment, "LOGNAME": "EXAMPLE\\ada von b"})
    ada.fab("run", "true", "--on", "h1")
    begin, end = place.audit[-2:]
    assert str(begin["actor"]).startswith("EXAMPLE\\ada von b@")
    assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z-EXAMPLE-ada-von-b-[0-9a-f]{4}", str(begin["run"]))
    assert end["run"] == begin["run"]


def test_a_wrong_host_key_stops_that_host_alone_and_hides_behind_nobody(place: Place) -> None:
    known = place.root / "inventory" / "loop" / "known_hosts"
    right = known.read_text()
    lines = right.splitlines()
    other = subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place.root / "other")], check=True
    )
    assert other.returncode == 0
    key = " ".join((place.root / "other.pub").read_text().split()[:2])
    try:
        wrong = f"{lines[2].split()[0]} {key}"  # of h3; h1 and h2 have none
        known.write_text("\n".join([wrong, *lines[3:]]) + "\n")
        done = place.fab("run", "echo x", "--on", "apps")
    finally:
        known.write_text(right)
    heads = [line for line in done.stdout.splitlines() if line.startswith("──")]
    assert heads == [
        "── h4  1 host, exit 0",
        "── h3  1 host, unreachable (host_key_changed)",
        "── h[1-2]  2 hosts, unreachable (host_key_unknown)",
    ]
    assert "wrong host key" in done.stdout and "no host key is pinned" in done.stdout
    assert "next: somebody may stand in between" in done.stderr and "--replace" in done.stderr
