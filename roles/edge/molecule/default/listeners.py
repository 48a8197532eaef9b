"""Six slow downloads and a stream of requests through HAProxy while it is reloaded; fails on any fault.

The downloads are slow until the last reload is done, however long that takes; then they hurry.
"""

import http.client
import ssl
import subprocess
import sys
import threading
import time

SIZE, RATE, COUNT = 60_000_000, 300_000, 6
PIECE = bytes(range(256)) * 64
context = ssl._create_unverified_context()
faults: list[str] = []
answered = whole = 0
stop, hurry = threading.Event(), threading.Event()


def connect():
    return http.client.HTTPSConnection("127.0.0.1", 443, timeout=20, context=context)


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


songs = [threading.Thread(target=hear) for _ in range(COUNT)]
crowd = [threading.Thread(target=ask, args=(keep,)) for keep in (True, True, False)]
for thread in songs + crowd:
    thread.start()
time.sleep(1)
for _ in range(int(sys.argv[1])):
    subprocess.run(["systemctl", "reload", "haproxy"], check=True)
    time.sleep(1)
alive = sum(thread.is_alive() for thread in songs)
hurry.set()
for thread in songs:
    thread.join()
stop.set()
for thread in crowd:
    thread.join()
print(
    f"{sys.argv[1]} reloads: {answered} requests, {alive} downloads ran through,"
    f" {whole} whole, faults {faults}"
)
sys.exit(bool(faults) or alive != COUNT or whole != COUNT)
