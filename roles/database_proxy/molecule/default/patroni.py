"""Patroni's REST API in miniature: /primary and /replica?lag=… over TLS, as NAME.role says.

Like Patroni's, an answer to OPTIONS is a status line, and ends the connection.
"""

import http.server
import pathlib
import ssl
import sys

NAME = sys.argv[1]
PLACE = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else "/run/standin")
ADDRESS = (f"127.0.1.{NAME[-1]}", int(sys.argv[2]) if len(sys.argv) > 2 else 8008)


class Api(http.server.BaseHTTPRequestHandler):
    def do_OPTIONS(self):
        role = (PLACE / f"{NAME}.role").read_text().strip()
        asked = {"/primary": "primary", "/replica?lag=16MB": "replica"}.get(self.path)
        status = "400 Bad" if asked is None else "200 OK" if asked == role else "503 No"
        self.wfile.write(f"{self.protocol_version} {status}\r\n\r\n".encode())

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer(ADDRESS, Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(PLACE / f"{NAME}.pem")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
