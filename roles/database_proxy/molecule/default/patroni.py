"""Patroni's REST API in miniature: /primary and /replica?lag=… over TLS, as /run/standin/NAME.role says."""

import http.server
import pathlib
import ssl
import sys

NAME = sys.argv[1]
PLACE = pathlib.Path("/run/standin")


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_OPTIONS(self):
        role = (PLACE / f"{NAME}.role").read_text().strip()
        asked = {"/primary": "primary", "/replica?lag=16MB": "replica"}.get(self.path)
        self.send_response(400 if asked is None else 200 if asked == role else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer((f"127.0.1.{NAME[-1]}", 8008), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(PLACE / f"{NAME}.pem")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
