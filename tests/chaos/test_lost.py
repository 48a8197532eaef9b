"""A host is lost in the middle of `fab provision`: it is named, the others are whole, a rerun ends it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from backline.lab.machine import podman
from backline.tasks.steps import ROOT, environment
from tests.live import BIN, Fleet, run

# What the run has to bring back: early in the first role, and late, in the last one of every host.
EARLY = "/etc/issue.net"
LATE = "/etc/systemd/system/prometheus-node-exporter.service.d/50-backline.conf"


def present(fleet: Fleet, host: str, path: str) -> bool:
    answer = podman("exec", fleet.container(host), "sh", "-c", f"test -e {path}; echo $?")
    return answer.strip() == "0"


@pytest.fixture
def lost(fleet: Fleet) -> Iterator[str]:
    """A streaming host that will go away; it is there again afterwards."""
    host = fleet.hosts("streaming")[-1]
    yield host
    podman("start", fleet.container(host))


def provision(fleet: Fleet) -> subprocess.Popen[str]:
    words = [str(BIN / "fab"), "provision", "--env", fleet.env, "--json"]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment({"ANSIBLE_FORCE_COLOR": "0"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_host_lost_in_the_middle_is_named_and_a_rerun_converges(fleet: Fleet, lost: str) -> None:
    hosts = [host.name for host in fleet.topology]
    for host in hosts:
        assert present(fleet, host, EARLY) and present(fleet, host, LATE)
        podman("exec", fleet.container(host), "rm", EARLY, LATE)
    process = provision(fleet)
    deadline = time.monotonic() + 120
    while not present(fleet, lost, EARLY):
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.2)
    podman("kill", fleet.container(lost))
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, out + err
    assert lost in err and "unreachable" in err, err
    events = [json.loads(line) for line in out.splitlines()]
    assert {event["host"] for event in events if event["event"] == "unreachable"} == {lost}
    assert not [event for event in events if event["event"] == "failed"]
    rest = [host for host in hosts if host != lost]
    assert [host for host in rest if not present(fleet, host, LATE)] == []

    podman("start", fleet.container(lost))
    deadline = time.monotonic() + 60
    while fleet.on(lost, "true", expect=None).code:
        assert time.monotonic() < deadline, f"{lost} does not come back"
        time.sleep(1)
    assert not present(fleet, lost, LATE)
    again = run("fab", "provision", "--env", fleet.env, "--json", timeout=900).lines
    touched = {name for event in again if event["event"] == "change" for name in event["hosts"]}
    assert touched == {lost}, "what the others had to change was changed by the first run"
    assert present(fleet, lost, LATE)
    final = run("fab", "provision", "--env", fleet.env, "--json", timeout=900).lines
    assert not [event for event in final if event["event"] == "change"]
