"""Asks TLS servers, and checks who they are, as every client of the fleet does.

client.py once HOST PORT: ends with 1 and the reason when it gets no answer.
client.py load NAME=ADDRESS…: every 50 ms, until it is told to end; counts in /run/standin/tally.json.
A client tries a second time, and of the stubborn ones, which are one service, at the other host.
"""

import collections
import json
import os
import pathlib
import signal
import socket
import ssl
import sys
import time

FOLDER = "/etc/backline/pki"


def ask(name, address, port):
    context = ssl.create_default_context(cafile=f"{FOLDER}/ca.pem")
    context.load_cert_chain(f"{FOLDER}/host.pem", f"{FOLDER}/host.key")
    with (
        socket.create_connection((address, port), timeout=3) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        secured.sendall(b"you")
        if secured.recv(100) != b"hello you":
            raise ConnectionError("no answer")


def attempt(name, address, port, faults):
    try:
        ask(name, address, port)
    except OSError as error:
        faults.append(f"{name}:{port}: {error}")
        return False
    return True


def load(hosts):
    over = []
    signal.signal(signal.SIGTERM, lambda *_: over.append(True))
    tally = collections.Counter(requests=0, first=0, second=0)
    faults, lost = [], []
    while not over:
        for name, address in hosts:
            for port in (8443, 8444):
                others = [host for host in hosts if host[0] != name]
                again = others if port == 8444 else [(name, address)]
                tally["requests"] += 1
                if attempt(name, address, port, faults):
                    continue
                tally["first"] += 1
                time.sleep(0.05)
                if not attempt(*again[0], port, lost):
                    tally["second"] += 1
        time.sleep(0.05)
    told = {**tally, "faults": faults[-20:], "lost": lost[-20:]}
    pathlib.Path("/run/standin/tally.json").write_text(json.dumps(told))


if sys.argv[1] == "once":
    try:
        ask("localhost", sys.argv[2], int(sys.argv[3]))
    except OSError as error:
        sys.exit(str(error))
else:
    os.nice(5)
    load([tuple(word.split("=")) for word in sys.argv[2:]])
