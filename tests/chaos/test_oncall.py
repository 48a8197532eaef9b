"""What is typed at 3 a.m., on hosts with a real sudo and real journals, and an operator who is killed."""

from __future__ import annotations

import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial

from backline.tasks.steps import ROOT
from tests.live import BIN, Fleet, run


def names(fleet: Fleet) -> list[str]:
    return sorted(host.name for host in fleet.topology)


def test_a_command_reaches_every_host_as_the_deploy_user(fleet: Fleet) -> None:
    found = run("fab", "run", "id -un; hostname", "--on", "all", "--env", fleet.env, "--json").lines
    assert sorted(entry["host"] for entry in found) == names(fleet)
    assert all(entry["stdout"] == f"deploy\n{entry['host']}\n" for entry in found)


def test_the_deploy_user_is_not_root_and_sudo_is(fleet: Fleet) -> None:
    words = ("--on", "stream1", "--env", fleet.env, "--json")
    assert run("fab", "run", "sudo -n id -u", *words, expect=1).lines[0]["state"] == "failed"
    assert run("fab", "run", "id -u", *words, "--sudo").last["stdout"] == "0\n"


def test_what_root_runs_ends_with_the_operator_too(fleet: Fleet) -> None:
    for number in (signal.SIGKILL, signal.SIGINT):
        seconds = str(3000 + secrets.randbelow(900))
        words = ("--on", "worker1", "--env", fleet.env, "--sudo")
        process = subprocess.Popen(
            [BIN / "fab", "run", f"sleep {seconds}", *words], cwd=ROOT, stdin=subprocess.DEVNULL
        )
        wait_for(partial(running, fleet, seconds, True))
        process.send_signal(number)
        process.wait(15)
        wait_for(partial(running, fleet, seconds, False))


def test_journals_of_all_hosts_are_one_in_the_order_of_time(fleet: Fleet) -> None:
    word = f"backline-{secrets.token_hex(4)}"
    for host in ("stream2", "db1", "stream1"):
        fleet.on(host, f"sudo logger -t oncall {word}")
    found = run("fab", "logs", "--since", "5m", "--grep", word, "--env", fleet.env, "--json").lines
    mine = [entry["host"] for entry in found if entry["message"] == word]
    assert mine == ["stream2", "db1", "stream1"]
    assert [entry["time"] for entry in found] == sorted(entry["time"] for entry in found)
    units = run("fab", "logs", "--unit", "ssh", "--since", "1h", "--env", fleet.env, "--json").lines
    assert "ssh.service" in {entry["unit"] for entry in units}
    assert {entry["host"] for entry in units} == set(names(fleet))


def test_a_shell_keeps_its_connections(fleet: Fleet) -> None:
    done = subprocess.run(
        [BIN / "fab", "shell", "--on", "all", "--env", fleet.env],
        cwd=ROOT,
        input="\\timing\ntrue\ntrue\n@stream1 echo $SSH_CONNECTION\n@stream1 echo $SSH_CONNECTION\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    first, second = [line for line in done.stdout.splitlines() if line.count(" ") == 3][-2:]
    assert first == second, done.stdout
    took = [
        float(line.split()[0])
        for line in done.stderr.splitlines()
        if f" s, {len(names(fleet))} hosts" in line
    ]
    assert took[1] < took[0]


def running(fleet: Fleet, seconds: str, wanted: bool) -> bool:
    """Whether a `sleep` of so many seconds is there, or not, as wanted."""
    found = fleet.on("worker1", f"pgrep -fx 'sleep {seconds}'", expect=None).code == 0
    return found == wanted


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Half of the deadline that a command has by default: it is not that which ends it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too late"
        time.sleep(0.5)
