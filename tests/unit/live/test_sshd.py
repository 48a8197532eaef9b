"""The sshds that tests start are real, and none of them outlives its test."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from backline.transport.fleet import SshFleet
from tests.sshd import ENDS_WITH_US, loopback

ROOT = Path(__file__).parents[3]


def daemons(folder: Path) -> list[str]:
    found = subprocess.run(
        ["pgrep", "-f", f"sshd.*{folder}/sshd"], capture_output=True, text=True
    ).stdout
    return found.split()


def test_more_hosts_than_one_daemon_listens_for(tmp_path: Path) -> None:
    with loopback(tmp_path, 18) as hosts:
        with SshFleet(hosts.targets, hosts.known_hosts) as fleet:
            for name in ("h1", "h16", "h17", "h18"):
                said = fleet.run(name, "echo ${SSH_CONNECTION#* * }", deadline=20).stdout.decode()
                assert said.split()[0] == hosts.targets[name].address
        assert len(daemons(tmp_path)) == 2
    assert not daemons(tmp_path)


def test_they_end_when_the_test_is_killed(tmp_path: Path) -> None:
    assert ENDS_WITH_US
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path; "
        "from tests.sshd import loopback\n"
        f"with loopback(Path({str(tmp_path)!r}), 2): print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"up\n"
    assert daemons(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait(5)
    end = time.monotonic() + 5
    while daemons(tmp_path):
        assert time.monotonic() < end, "an sshd is left"
        time.sleep(0.05)
