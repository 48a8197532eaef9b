#!/usr/bin/python3
"""Stands in for hostctl and for an application: `hostctl exec --app A --process P --release R`.

Serves a few requests over the release's own socket, and tells systemd when it is ready.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from urllib.parse import quote, unquote

APP, RELEASE = sys.argv[3], sys.argv[7]


class Handler(BaseHTTPRequestHandler):
    """A few pages."""

    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        """There is no address on a Unix socket."""
        return "nginx"

    def answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        """Sends a whole answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answers by path."""
        path, mark, query = self.path.partition("?")
        if path in ("/healthz", "/version"):
            self.answer(200, RELEASE)
        elif path == "/headers":
            self.answer(200, json.dumps(dict(self.headers)))
        elif path == "/framed":
            self.answer(
                200, "", {"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"}
            )
        elif path == "/writes":
            self.answer(200, json.dumps({place: writes(place) for place in PLACES}))
        elif path == "/environment":
            self.answer(200, json.dumps(dict(os.environ)))
        elif path == "/slow":
            time.sleep(3)
            self.answer(200, RELEASE)
        elif path.startswith("/play/"):
            headers = {
                "X-Accel-Redirect": "/_media/" + quote(unquote(path[6:])) + mark + query,
                "Content-Type": "audio/x-from-the-app",
                "Content-Disposition": 'inline; filename="a song.wav"',
                "Cache-Control": "private",
            }
            self.answer(200, "", headers)
        else:
            self.answer(404, "no such page")


PLACES = (f"/srv/{APP}/shared", f"/srv/{APP}/releases/{RELEASE}", "/etc", "/var/lib", f"/run/{APP}")


def writes(place: str) -> bool:
    """Whether this process may make a file there."""
    try:
        (Path(place) / "written").write_text("x")
    except OSError:
        return False
    return True


class Server(ThreadingMixIn, UnixStreamServer):
    """Finishes the requests it has before it exits, as gunicorn does."""

    request_queue_size = 128
    daemon_threads = False


def main() -> None:
    """Serves until SIGTERM."""
    path = Path(f"/run/{APP}/{RELEASE}.sock")
    path.unlink(missing_ok=True)
    server = Server(str(path), Handler)
    stop = threading.Thread(target=server.shutdown)
    signal.signal(signal.SIGTERM, lambda *_: stop.start())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
    server.serve_forever(poll_interval=0.1)
    server.server_close()


main()
