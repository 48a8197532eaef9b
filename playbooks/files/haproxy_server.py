"""Waits until a balancer has a server or not: `haproxy_server.py in|out|spare|other|some SERVER SECONDS`.

Out: HAProxy sends it no new request. In: it is UP in every backend that has it, or kept out there by
somebody else (MAINT: a quarantine), which is not ours to end. A balancer that does not know the server
counts as out. Other: another one of each of its backends is UP. Spare: it may leave, because it is out
already or there is another one. Some: one of SERVER, several with commas, is UP.
Standard library only: it runs on the balancer's host.
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


def states(stat: str) -> dict[str, dict[str, str]]:
    """What `show stat` says of the servers: {backend: {server: 'UP', 'NOLB', 'DOWN 1/2', …}}."""
    found: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(stat.removeprefix("# ").splitlines()):
        if row["svname"] not in ("FRONTEND", "BACKEND"):
            found.setdefault(row["pxname"], {})[row["svname"]] = row["status"]
    return found


def reached(wanted: str, server: str, backends: dict[str, dict[str, str]]) -> bool:
    """True when every backend agrees. `UP 1/2` is on its way down and still gets requests."""
    if wanted == "some":
        return any(_all_say(name, ("UP",), backends) for name in server.split(","))
    if wanted == "in":
        return _all_say(server, ("UP", "MAINT"), backends)
    mine = [servers for servers in backends.values() if server in servers]
    out = [not servers[server].startswith(("UP", "no check")) for servers in mine]
    if wanted == "out":
        return all(out)
    others = [any(servers[name] == "UP" for name in servers if name != server) for servers in mine]
    if wanted == "other":
        return all(others)
    return all(one_out or other for one_out, other in zip(out, others, strict=True))


def _all_say(server: str, words: tuple[str, ...], backends: dict[str, dict[str, str]]) -> bool:
    said = [servers[server] for servers in backends.values() if server in servers]
    return bool(said) and all(status in words for status in said)


def main(wanted: str, server: str, seconds: str) -> None:
    deadline = time.monotonic() + float(seconds)
    while True:
        found = states(ask("show stat"))
        if reached(wanted, server, found):
            print(json.dumps({"server": server, "states": found}))
            return
        if time.monotonic() > deadline:
            said = {name: servers for name, servers in found.items() if server in servers}
            sys.exit(f"{server} is not {wanted} after {seconds} s; HAProxy says {said}")
        time.sleep(EVERY)


if __name__ == "__main__":
    main(*sys.argv[1:])
