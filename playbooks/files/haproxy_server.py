"""Waits on a balancer until a server is in or out: `haproxy_server.py in|out SERVER SECONDS`.

Out: HAProxy sends it no new request. In: it is UP in every backend that has it. A balancer that does
not know the server counts as out. Standard library only: it runs on the balancer's host.
"""

from __future__ import annotations

import csv
import json
import socket
import sys
import time

SOCKET = "/run/haproxy/admin.sock"
EVERY = 0.5


def ask(command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(SOCKET)
        connection.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def states(stat: str, server: str) -> dict[str, str]:
    """The state of a server per backend, from `show stat`: {backend: 'UP', 'NOLB', 'DOWN 1/2', …}."""
    rows = csv.DictReader(stat.removeprefix("# ").splitlines())
    return {row["pxname"]: row["status"] for row in rows if row["svname"] == server}


def reached(wanted: str, found: dict[str, str]) -> bool:
    """True when every backend agrees. `UP 1/2` is on its way down and still gets requests."""
    if wanted == "in":
        return bool(found) and all(status == "UP" for status in found.values())
    return not any(status.startswith(("UP", "no check")) for status in found.values())


def main(wanted: str, server: str, seconds: str) -> None:
    deadline = time.monotonic() + float(seconds)
    while True:
        found = states(ask("show stat"), server)
        if reached(wanted, found):
            print(json.dumps({"server": server, "states": found}))
            return
        if time.monotonic() > deadline:
            sys.exit(f"HAProxy still says of {server}: {found or 'it is not in the configuration'}")
        time.sleep(EVERY)


if __name__ == "__main__":
    main(*sys.argv[1:])
