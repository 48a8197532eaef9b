"""Listens on a port of the loopback interface; appends each alert that is posted to a file, a line each."""

import http.server
import json
import sys
from pathlib import Path


class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Path(sys.argv[2]).open("a", encoding="utf-8") as heard:
            for alert in body["alerts"]:
                heard.write(json.dumps({"status": alert["status"], **alert["labels"]}) + "\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass  # The path has the secret in it.


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Listener).serve_forever()
