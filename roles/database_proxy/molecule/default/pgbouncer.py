"""PgBouncer in miniature: refuses GSSAPI; tells others its host's name, then gives back what it hears."""

import socketserver
import sys

NAME = sys.argv[1]
ADDRESS = (f"127.0.1.{NAME[-1]}", int(sys.argv[2]) if len(sys.argv) > 2 else 6432)
GSSENC_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x30"


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            heard = self.request.recv(4096)
            if heard == GSSENC_REQUEST:
                self.request.sendall(b"N")
                return
            self.request.sendall(f"{NAME}\n".encode() if heard else b"")
            while heard := self.request.recv(4096):
                self.request.sendall(heard)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 200


Server(ADDRESS, Echo).serve_forever()
