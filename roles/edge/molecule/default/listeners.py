"""Slow downloads and a stream of requests through HAProxy while COMMAND runs TIMES; fails on any fault.

The downloads are slow until the last command is done, however long that takes; then they hurry.
With --new FILE it also fails unless HAProxy shows FILE's certificate afterwards, and another one before.
"""

import argparse
import http.client
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

SIZE, RATE = 60_000_000, 300_000
PIECE = bytes(range(256)) * 64
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
parser = argparse.ArgumentParser()
parser.add_argument("--songs", type=int, default=6)
parser.add_argument("--new", type=Path)
parser.add_argument("times", type=int)
parser.add_argument("command", nargs=argparse.REMAINDER)
wanted = parser.parse_args()
context = ssl._create_unverified_context()
faults: list[str] = []
answered = whole = 0
stop, hurry = threading.Event(), threading.Event()


def connect():
    return http.client.HTTPSConnection("127.0.0.1", 443, timeout=20, context=context)


def shown():
    """The certificate that a new connection gets to see."""
    connection = connect()
    connection.connect()
    certificate = connection.sock.getpeercert(True)
    connection.close()
    return certificate


def installed():
    text = wanted.new.read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index(BEGIN) : text.index(END) + len(END)])


def hear():
    global whole
    try:
        answer = (connection := connect()).request("GET", "/song") or connection.getresponse()
        began, got = time.monotonic(), 0
        while piece := answer.read(len(PIECE)):
            if piece != PIECE[: len(piece)]:
                faults.append("wrong bytes")
                return
            got += len(piece)
            hurry.wait(max(0, got / RATE - (time.monotonic() - began)))
        if got == SIZE:
            whole += 1
        else:
            faults.append(f"cut at {got}")
    except (OSError, http.client.HTTPException) as error:
        faults.append(f"download: {error!r}")


def ask(keep):
    global answered
    connection = connect()
    while not stop.is_set():
        try:
            connection.request("GET", "/who")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                faults.append(f"answered {answer.status}")
            answered += 1
        except (OSError, http.client.HTTPException) as error:
            faults.append(f"request: {error!r}")
            connection = connect()
        if not keep:
            connection.close()
            connection = connect()
        time.sleep(0.03)


songs = [threading.Thread(target=hear) for _ in range(wanted.songs)]
crowd = [threading.Thread(target=ask, args=(keep,)) for keep in (True, True, False)]
before = shown()
for thread in songs + crowd:
    thread.start()
time.sleep(1)
for _ in range(wanted.times):
    if subprocess.run(wanted.command).returncode:
        faults.append(f"{wanted.command} failed")
    time.sleep(1)
if wanted.new and (shown() == before or shown() != installed()):
    faults.append(f"the certificate of {wanted.new} is not shown, or was before")
alive = sum(thread.is_alive() for thread in songs)
hurry.set()
for thread in songs:
    thread.join()
stop.set()
for thread in crowd:
    thread.join()
print(
    f"{wanted.times} times {' '.join(wanted.command)}: {answered} requests, {alive} downloads ran"
    f" through, {whole} whole, faults {faults}"
)
sys.exit(bool(faults) or not answered or not alive == whole == wanted.songs)
