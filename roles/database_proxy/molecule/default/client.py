"""Clients of the database, on the host itself, where time can be measured.

client.py who PORT [COUNT]         the names that so many connections reach; `-` for none
client.py until PORT NAME SECONDS  how long until a connection reaches NAME (`-`: nobody), and who before
client.py hold PORT FILE           one connection, at work; FILE says with whom, and when it ended
client.py load PORT SECONDS        new connections without a pause: how many, and how many reached nobody
"""

import json
import pathlib
import socket
import sys
import time


def reach(port, timeout=3):
    """A connection and the name that answers; None and `-` when nobody is there."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        connection.sendall(b"who")
        name = connection.recv(100).decode().strip()
    except OSError:
        return None, "-"
    return (connection, name) if name else (None, "-")


def name(port):
    connection, found = reach(port)
    if connection:
        connection.close()
    return found


def until(port, wanted, seconds):
    began, seen = time.monotonic(), []
    while time.monotonic() - began < seconds:
        found = name(port)
        if found == wanted:
            return {"after": time.monotonic() - began, "seen": sorted(set(seen))}
        seen.append(found)
        time.sleep(0.02)
    return {"after": None, "seen": sorted(set(seen))}


def hold(port, file):
    connection, found = reach(port)
    spoken = 0
    file.write_text(json.dumps({"with": found, "spoken": spoken, "ended": None}))
    try:
        while True:
            connection.sendall(b"x")
            if connection.recv(10) != b"x":
                break
            spoken += 1
            file.write_text(json.dumps({"with": found, "spoken": spoken, "ended": None}))
            time.sleep(0.05)
    except OSError:
        pass
    file.write_text(json.dumps({"with": found, "spoken": spoken, "ended": time.time()}))


def load(port, seconds):
    began, names = time.monotonic(), []
    while time.monotonic() - began < seconds:
        names.append(name(port))
    return {"connections": len(names), "names": sorted(set(names)), "nobody": names.count("-")}


what, port, *more = sys.argv[1:]
if what == "who":
    print(json.dumps([name(int(port)) for _ in range(int(more[0]) if more else 1)]))
elif what == "until":
    print(json.dumps(until(int(port), more[0], float(more[1]))))
elif what == "hold":
    hold(int(port), pathlib.Path(more[0]))
else:
    print(json.dumps(load(int(port), float(more[0]))))
