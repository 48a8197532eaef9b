"""A streaming host in miniature: /_health, /who, and /song (SIZE known bytes, as fast as they are read)."""

import http.server
import sys

SIZE = 60_000_000
PIECE = bytes(range(256)) * 64


class Standin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/song":
            self.send_response(200)
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()
            left = SIZE
            while left:
                piece = PIECE[:left]
                self.wfile.write(piece)
                left -= len(piece)
            return
        body = (
            repr(dict(self.headers)).encode() if self.path == "/headers" else sys.argv[1].encode()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("", 8080), Standin).serve_forever()
