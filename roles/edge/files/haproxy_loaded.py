"""Ends with 0 when HAProxy's newest worker runs the configuration of the last reload, else with 1.

Asks the master's socket (`show proc`): a worker that has seen no reload since it started is current.
"""

import socket
import sys
import time

SOCKET = "/run/haproxy/master.sock"
SECONDS = 10


def current_workers() -> list[str]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(SOCKET)
        connection.sendall(b"show proc\n")
        answer = b""
        while b"# programs" not in answer:
            answer += connection.recv(4096) or b"# programs"
    rows = [line.split() for line in answer.decode().splitlines()]
    return [row[0] for row in rows if len(row) > 2 and row[1] == "worker" and row[2] == "0"]


deadline = time.monotonic() + SECONDS
problem = ""
while time.monotonic() < deadline:
    try:
        if current_workers():
            sys.exit(0)
        problem = "the old worker is still the newest one"
    except OSError as error:
        problem = str(error)
    time.sleep(0.2)
print(f"HAProxy did not load the new configuration: {problem}; see `journalctl -u haproxy`")
sys.exit(1)
