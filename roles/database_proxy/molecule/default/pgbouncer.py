"""PgBouncer in miniature: greets with its host's name, then gives back what it hears."""

import socketserver
import sys

NAME = sys.argv[1]


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            self.request.sendall(f"{NAME}\n".encode())
            while heard := self.request.recv(4096):
                self.request.sendall(heard)
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 200


Server((f"127.0.1.{NAME[-1]}", 6432), Echo).serve_forever()
