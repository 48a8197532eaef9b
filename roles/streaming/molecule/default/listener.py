"""A listener for side_effect.yml: `listener.py COUNT`, prints JSON when all have what they asked for.

COUNT connections download hour.wav, slowly until the file /run/hurry is there.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
import time
from pathlib import Path

HURRY = Path("/run/hurry")
REQUEST = b"GET /play/hour.wav HTTP/1.1\r\nHost: music\r\nConnection: close\r\n\r\n"
digests: list[str] = []


def listen() -> None:
    """One download; nginx is busy with it, as it is larger than the kernel's buffers."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", 8080))
        connection.sendall(REQUEST)
        stream = connection.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        digest = hashlib.sha256()
        while piece := stream.read(4096):
            digest.update(piece)
            if not HURRY.exists():
                time.sleep(0.02)
        digests.append(digest.hexdigest())


HURRY.unlink(missing_ok=True)
threads = [threading.Thread(target=listen) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(digests))
