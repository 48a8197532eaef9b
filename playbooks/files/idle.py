"""Waits until nothing is served from this host any more: `idle.py SECONDS`.

nginx: no response is being written and no old worker is left with a download. HAProxy: the frontends
for listeners have no session and no old worker is left. A daemon that does not run is idle. The kernel
too: megabytes that a daemon has handed over may still be on their way, and die with the host. It ends when
nobody waits for it any more.
Standard library only: it runs on the host.
"""

from __future__ import annotations

import csv
import re
import select
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

NGINX_STATUS = ("http://127.0.0.1:8082/stub_status", "http://127.0.0.1:8089/nginx_status")
HAPROXY_SOCKET = "/run/haproxy/admin.sock"
INTERNAL = ("metrics", "stats", "monitor")
SSH = 22
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
IN_A_ROW = 3


def nginx() -> str:
    """What nginx is still doing; empty when nothing."""
    for url in NGINX_STATUS:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return nginx_busy(answer.read().decode(), command_lines())
        except (urllib.error.URLError, OSError):
            continue
    return ""


def nginx_busy(status: str, commands: list[str]) -> str:
    writing = int(re.search(r"Writing: (\d+)", status)[1])
    old = sum("worker process is shutting down" in command for command in commands)
    # One response is the one that we read.
    return f"nginx: {writing - 1} responses, {old} old workers" if writing > 1 or old else ""


def haproxy() -> str:
    """What HAProxy is still doing; empty when nothing."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(HAPROXY_SOCKET)
            connection.sendall(b"show stat\n")
            stat = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except OSError:
        return ""
    return haproxy_busy(stat, command_lines())


def haproxy_busy(stat: str, commands: list[str]) -> str:
    rows = csv.DictReader(stat.removeprefix("# ").splitlines())
    sessions = sum(
        int(row["scur"] or 0)
        for row in rows
        if row["svname"] == "FRONTEND" and row["pxname"] not in INTERNAL
    )
    # A master and its worker; each more is an old worker.
    programs = sum(command.split(" ")[0].endswith("/haproxy") for command in commands)
    old = max(0, programs - 2)
    return f"HAProxy: {sessions} sessions, {old} old workers" if sessions or old else ""


def kernel() -> str:
    """What the kernel still has to send; empty when nothing."""
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    return kernel_busy("".join(path.read_text() for path in tables if path.exists()))


def kernel_busy(table: str) -> str:
    """Connections in /proc/net/tcp with bytes not yet acknowledged; not those of sshd, nor to us."""
    waiting = 0
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 5 or fields[0] == "sl":
            continue
        peer, port = fields[2].partition(":")[0], int(fields[1].rpartition(":")[2], 16)
        unsent = int(fields[4].partition(":")[0], 16)
        listens = fields[3] == "0A"
        if unsent and not listens and port != SSH and peer not in LOOPBACK:
            waiting += 1
    return f"kernel: {waiting} connections with bytes to send" if waiting else ""


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def alone() -> bool:
    """Whether our stdout leads nowhere: who started us is gone."""
    poll = select.poll()
    poll.register(1, 0)  # an error and a hang-up are told without being asked for
    return bool(poll.poll(0))


def main(seconds: str) -> None:
    deadline, quiet = time.monotonic() + float(seconds), 0
    while quiet < IN_A_ROW:
        if alone():
            sys.exit("nobody waits for it any more")
        busy = "; ".join(filter(None, (nginx(), haproxy(), kernel())))
        quiet = 0 if busy else quiet + 1
        if busy and time.monotonic() > deadline:
            sys.exit(f"still busy after {seconds} s: {busy}")
        time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
