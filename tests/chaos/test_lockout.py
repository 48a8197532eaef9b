"""Changes that would lock the operators out: the host undoes them by itself, within a minute."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from backline.lab.machine import podman
from tests.chaos.conftest import ENV
from tests.live import Answer, Fleet, run

LIMIT = 60.0
EVERY = 1.0
LOCKOUTS = {
    "firewall": {"firewall_openings": [{"name": "web alone", "ports": [80]}]},
    "sshd": {"base_sshd_allow_groups": ["a-group-of-nobody"]},
}
KEPT = {
    "firewall": "/etc/nftables.conf",
    "sshd": "/etc/ssh/sshd_config.d/00-backline.conf",
}


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest, made: set[str]) -> Fleet:
    """One host with base.yml is enough here."""
    fleet = Fleet(str(request.config.getoption("--env")) or ENV)
    if fleet.env == ENV and not made:
        run("inv", "lab.up", "--env", ENV)
    host = fleet.hosts("streaming")[0]
    words = ("--playbook", "base", "--on", host, "--yes", "1")
    run("fab", "provision", "--env", fleet.env, *words, timeout=600)
    return fleet


def fresh_login(fleet: Fleet, host: str) -> bool:
    """Whether an operator gets in now, by a connection of their own."""
    entry = next(entry for entry in fleet.topology if entry.name == host)
    words = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "-o", "ControlPath=none"]
    words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    words += ["-o", "IdentitiesOnly=yes", "-i", str(fleet.folder / "ssh_key")]
    words += ["-p", str(entry.ssh_port), "backline@127.0.0.1", "true"]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def content(fleet: Fleet, host: str, path: str) -> str:
    return podman("exec", fleet.container(host), "cat", path)


@pytest.mark.parametrize("fast", [True, False], ids=["mitogen", "stock"])
@pytest.mark.parametrize("what", sorted(LOCKOUTS))
def test_a_change_that_locks_us_out_is_undone_by_the_host(
    fleet: Fleet, what: str, fast: bool
) -> None:
    """The play is started, and from then on nobody but the host itself does anything."""
    host = fleet.hosts("streaming")[0]
    before = content(fleet, host, KEPT[what])
    assert fresh_login(fleet, host)
    extra = ("--limit", host, "-e", json.dumps(LOCKOUTS[what]), "--tags", _tag(what))
    machine = _play(fleet, fast, *extra)
    locked = opened = 0.0
    while machine.poll() is None or (locked and not opened):
        if fresh_login(fleet, host):
            opened = time.monotonic() if locked and not opened else opened
        else:
            locked, opened = locked or time.monotonic(), 0.0
        if locked and not opened and time.monotonic() - locked > 2 * LIMIT:
            machine.kill()
            raise AssertionError(f"{host} did not undo it:\n{machine.communicate()[0][-3000:]}")
        time.sleep(EVERY)
    answer = Answer(machine.returncode, *machine.communicate())
    assert locked, f"nobody was ever locked out:\n{answer.out[-3000:]}"
    print(f"\n{what}: locked out for {opened - locked:.0f} s, then undone by {host} itself")
    assert opened - locked < LIMIT
    assert answer.code != 0, "the play must not pass"
    assert "has gone back to the old" in answer.out, answer.out[-3000:]
    assert content(fleet, host, KEPT[what]) == before, "a reboot would lock us out again"


def test_afterwards_the_fleet_is_as_the_inventory_says(fleet: Fleet) -> None:
    host = fleet.hosts("streaming")[0]
    answer = fleet.playbook("base", "--limit", host)
    assert "changed=0" in answer.out, answer.out[-3000:]


def _tag(what: str) -> str:
    return {"firewall": "firewall", "sshd": "sshd,users"}[what]


def _play(fleet: Fleet, fast: bool, *more: str) -> subprocess.Popen[str]:
    """base.yml, started in the background."""
    from backline.tasks.steps import ROOT, environment, mitogen
    from tests.live import BIN

    words = [str(BIN / "ansible-playbook"), "-i", f"inventory/{fleet.env}", "playbooks/base.yml"]
    return subprocess.Popen(
        [*words, *more],
        cwd=ROOT,
        env=environment({"ANSIBLE_FORCE_COLOR": "0", **(mitogen() if fast else {})}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
