#!/usr/bin/python3
"""Starts RabbitMQ anew where it stopped itself in a partition and did not come back.

The smaller side of a partition stops (pause_minority) and starts again when it sees the others. What
happens to the network while it does is not looked at: the node stays as it is, with its process running
and nothing in it, whatever becomes of the network. Told from others by this: systemd says that it runs, it
listens to no client, a majority of the members can be reached, and it has been so for PATIENCE seconds.

broker_mend.py ADDRESS PORT DISTRIBUTION_PORT PATIENCE [MEMBER_ADDRESS ...]
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

UNIT = "rabbitmq-server.service"
SINCE = Path("/run/backline-broker-mend/since")
HANDS_OFF = Path("/var/lib/backline/upkeep")
"""Somebody restarts or patches this host, or was cut off while they did."""
SECONDS = 3.0


def says(*words: str) -> str:
    """What a program prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def reached(address: str, port: str) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((address, int(port)), timeout=SECONDS):
            return True
    except OSError:
        return False


def stopped(address: str, port: str) -> bool:
    """Whether RabbitMQ runs and takes no clients, and nobody is at work here."""
    if (
        HANDS_OFF.exists()
        or says("systemctl", "show", UNIT, "--property=ActiveState", "--value") != "active"
    ):
        return False
    return not says("ss", "-Hltn", f"src {address} and sport = :{port}")


def main(address: str, port: str, distribution: str, patience: str, *members: str) -> None:
    """One look. The first that finds it stopped writes down when that was."""
    if not stopped(address, port):
        SINCE.unlink(missing_ok=True)
        return
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    if not SINCE.exists():
        SINCE.write_text(str(now))
    others = [member for member in members if member != address]
    if now - float(SINCE.read_text()) < float(patience):
        return
    seen = sum(reached(member, distribution) for member in others)
    if (seen + 1) * 2 <= len(members):
        return  # the smaller side: it stays stopped
    within = f"{seen} of {len(others)} others can be reached"
    print(f"RabbitMQ has taken no clients for {patience} s, and {within}: restarted")
    SINCE.unlink()
    says("systemctl", "--no-block", "restart", UNIT)


if __name__ == "__main__":
    main(*sys.argv[1:])
