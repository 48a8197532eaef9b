"""Runs ansible-playbook so that it ends with us: `python leash.py ARGUMENTS…` of ansible-playbook.

ansible-runner gives it a terminal, in a session of its own and deaf to a hang-up: it would go on, with
nobody looking, after `fab` was killed. Only we have the other end of that terminal, so reading from it
ends when we do, however we end. Then Ansible is interrupted, as by Ctrl-C; what is left of it after some
seconds is killed. A task that is under way on a host is told by mitogen that we are gone; apt and dpkg
finish what they do. Standard library only: it starts with each playbook.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 10.0
FOLDER = "BACKLINE_RUN_FOLDER"
"""The variable that names the folder which is removed when we cannot."""


def main(arguments: list[str]) -> int:
    """The exit code of ansible-playbook, or 128 and the signal that ended it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # ansible-playbook's as well: it hears from us
    program = Path(sys.executable).with_name("ansible-playbook")
    ansible = subprocess.Popen([str(program), *arguments], stdin=subprocess.DEVNULL)
    # Ctrl-C is for Ansible; we tell how it ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    watch = threading.Thread(target=_watch, args=(ansible,), daemon=True)
    watch.start()
    code = ansible.wait()
    if _over.is_set():
        watch.join(GRACE_SECONDS)
        close(Path(os.environ[FOLDER]))
    return code if code >= 0 else 128 - code


_over = threading.Event()


def _watch(ansible: subprocess.Popen[bytes]) -> None:
    """Waits until the other end of the terminal is closed, and ends Ansible then."""
    with suppress(OSError):  # a terminal that was hung up
        while os.read(0, 4096):
            pass
    _over.set()
    family = descendants(ansible.pid)
    with suppress(ProcessLookupError):
        ansible.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        ansible.wait(GRACE_SECONDS)
    for process in (*family, *descendants(ansible.pid), ansible.pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def descendants(ancestor: int) -> list[int]:
    """What a process has started, and what that has, those that have a session of their own too."""
    said = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False)
    children: dict[int, list[int]] = {}
    for line in said.stdout.splitlines():
        pid, parent = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def close(folder: Path) -> None:
    """Ends the SSH connections that Ansible keeps open for its next task, and removes the folder."""
    sockets = folder / "ssh"
    for socket in sockets.glob("*") if sockets.is_dir() else ():
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "any"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=GRACE_SECONDS,
            )
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
