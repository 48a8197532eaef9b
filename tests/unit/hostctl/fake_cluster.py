"""Three members of a database cluster: Patroni's REST API over TLS, and what the host's programs say.

Patroni answers as 4.1 does: changes need a client certificate and the password, /primary says yes as
soon as a member has the lock, before it is promoted, and /switchover answers late.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from backline.hostctl.host import Completed, Host

NAMES = ("db1", "db2", "db3")
ADDRESSES = {name: f"127.0.0.{number}" for number, name in enumerate(NAMES, start=1)}
PASSWORD = "not on any command line"
SOCKETS = "/var/run/postgresql"
TOOL = "/usr/local/sbin/backline-pgbouncer"


def make_certificates(folder: Path) -> None:
    """An authority and one certificate for all addresses, as ca.pem, host.pem and host.key."""
    addresses = ",".join(f"IP:{address}" for address in ADDRESSES.values())
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-keyout", "host.key", "-out", "host.pem",
         "-subj", "/CN=db1", "-addext", f"subjectAltName={addresses}",
         "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


class FakeCluster:
    """`roles` and `states` by member; `switch` is what Patroni does when it is asked to hand over."""

    def __init__(self, root: Path, certificates: Path, name: str = "db1") -> None:
        self.root, self.name = root, name
        self.leader: str | None = "db1"
        self.promoted = True
        self.sync: str | None = "db2"
        self.states = {"db1": "running", "db2": "streaming", "db3": "streaming"}
        self.lags: dict[str, object] = {"db2": 0, "db3": 0}
        self.listed = set(NAMES)
        self.paused = False
        self.scheduled = False
        self.silent: set[str] = set()
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.switch: Callable[[str], tuple[int, str]] = self.hand_over
        self.calls: list[list[str]] = []
        self.pooler_paused = False
        self.following: str | None = None
        self.timers: dict[str, list[str]] = {}
        self.fails: dict[str, Completed] = {}
        self.told: list[str] = []
        self.clock = 1000.0
        self._servers: list[ThreadingHTTPServer] = []
        port = self._serve("127.0.0.1", "db1", certificates, 0)
        for other in NAMES[1:]:
            self._serve(ADDRESSES[other], other, certificates, port)
        self._write(port, certificates)
        self.host = Host(
            root, run=self.run, boottime=lambda: self.clock, sleep=self._sleep, become=False
        )

    def hand_over(self, candidate: str) -> tuple[int, str]:
        """What a good switchover does: nobody leads, then the candidate has the lock, then it writes."""
        self.leader, self.promoted = None, False
        time.sleep(0.02)
        self.leader = candidate
        time.sleep(0.02)
        self.promoted = True
        return 200, f'Successfully switched over to "{candidate}"'

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def run(self, argv: Any, **options: Any) -> Completed:
        """The host's programs."""
        words = list(argv)
        self.calls.append(words)
        key = self._key(words)
        self.told.append(key)
        if key in self.fails:
            self.clock += options.get("timeout", 0) if self.fails[key].status is None else 0
            if key == "PAUSE" and self.fails[key].status is None:
                self.pooler_paused = True  # PgBouncer goes on waiting when its client is killed
            return self.fails[key]
        name = "_" + key.lower().replace(" ", "_").replace("-", "_")
        program: Callable[[list[str]], Completed] = getattr(self, name)
        return program(words)

    def _key(self, words: list[str]) -> str:
        if words[0] == "psql":
            return "sql" if "--no-password" in words else words[-1]
        if words[0] == TOOL:
            return words[1]
        return " ".join(words[:2]) if words[0] == "systemctl" else words[0]

    def _pause(self, words: list[str]) -> Completed:
        if self.pooler_paused:
            return Completed(1, "", "ERROR:  already suspended/paused")
        self.pooler_paused = True
        return Completed(0, "", "")

    def _resume(self, words: list[str]) -> Completed:
        if not self.pooler_paused:
            return Completed(1, "", "ERROR:  pooler is not paused/suspended")
        self.pooler_paused = False
        return Completed(0, "", "")

    def _show_databases(self, words: list[str]) -> Completed:
        host = self.following or SOCKETS
        return Completed(0, f"name,host,port\njukebox,{host},5432\npgbouncer,,6432\n", "")

    def _show_pools(self, words: list[str]) -> Completed:
        waiting = 3 if self.pooler_paused else 0
        rows = f"jukebox,jukebox,5,{waiting}\npgbouncer,pgbouncer,1,0\n"
        return Completed(0, f"database,user,cl_active,cl_waiting\n{rows}", "")

    def _sql(self, words: list[str]) -> Completed:
        return Completed(0, "1\n", "")

    def _follow(self, words: list[str]) -> Completed:
        self.following = words[2]
        return Completed(0, "", "")

    def _home(self, words: list[str]) -> Completed:
        self.following = None
        return Completed(0, "", "")

    def _systemctl_show(self, words: list[str]) -> Completed:
        if "--property=SubState" not in words:
            return Completed(0, "4711\n", "")
        there = ["waiting" if name[:-6] in self.timers else "dead" for name in words[4:]]
        return Completed(0, "\n\n".join(there), "")

    def _systemctl_stop(self, words: list[str]) -> Completed:
        for name in words[2:]:
            self.timers.pop(name.removesuffix(".timer"), None)
        return Completed(0, "", "")

    def _systemctl_restart(self, words: list[str]) -> Completed:
        return Completed(0, "", "")

    def _systemd_run(self, words: list[str]) -> Completed:
        options = dict(word[2:].partition("=")[::2] for word in words[1:] if word[:2] == "--")
        if options["unit"] in self.timers:
            return Completed(1, "", "already loaded")
        self.timers[options["unit"]] = [options["on-active"], *words[-3:]]
        return Completed(0, "", "")

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds
        time.sleep(0.003)

    def member(self, name: str) -> dict[str, Any]:
        role = "leader" if name == self.leader else "replica"
        if name == self.sync and name != self.leader:
            role = "sync_standby"
        found = {"name": name, "role": role, "state": self.states[name], "timeline": 3}
        return found if name == self.leader else {**found, "lag": self.lags.get(name, 0)}

    def _serve(self, address: str, name: str, certificates: Path, port: int) -> int:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if name in fake.silent:
                    self.close_connection = True
                    return
                self._answer(*fake.answer(name, self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                wanted = "Basic " + base64.b64encode(f"patroni:{PASSWORD}".encode()).decode()
                certificate = self.connection.getpeercert()
                if not certificate or self.headers["Authorization"] != wanted:
                    return self._answer(401, "not you")
                fake.asked.append((name, self.path, body))
                return self._answer(*fake.switch(str(body["candidate"])))

            def _answer(self, status: int, body: Any) -> None:
                raw = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *words: Any) -> None:
                pass

        server = ThreadingHTTPServer((address, port), Handler)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "host.pem", certificates / "host.key")
        context.load_verify_locations(certificates / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._servers.append(server)
        return int(server.server_address[1])

    def answer(self, name: str, path: str) -> tuple[int, Any]:
        if path == "/health":
            return 200, {"health": "true"}
        if path == "/config":
            return 200, {"synchronous_mode": self.sync is not None}
        if path == "/primary":
            role = "primary" if name == self.leader and self.promoted else "replica"
            return 200 if name == self.leader else 503, {"role": role, "state": "running"}
        assert path == "/cluster", path
        found: dict[str, Any] = {"members": [self.member(n) for n in NAMES if n in self.listed]}
        found |= {"pause": True} if self.paused else {}
        return 200, found | ({"scheduled_switchover": {}} if self.scheduled else {})

    def _write(self, port: int, certificates: Path) -> None:
        folder = self.root / "etc/backline"
        folder.mkdir(parents=True)
        pki = folder / "pki"
        pki.mkdir()
        for name in ("ca.pem", "host.pem", "host.key"):
            (pki / name).write_bytes((certificates / name).read_bytes())
        path = folder / "database.json"
        path.write_text(json.dumps(self.settings(port)))
        path.chmod(0o600)
        (self.root / "var/lib/backline").mkdir(parents=True)

    def settings(self, port: int) -> dict[str, Any]:
        members = [{"name": name, "address": address} for name, address in ADDRESSES.items()]
        pki = "/etc/backline/pki"
        return {
            "scope": "music",
            "name": self.name,
            "address": ADDRESSES[self.name],
            "members": members,
            "port": 5432,
            "socket_dir": SOCKETS,
            "restapi": {"port": port, "user": "patroni", "password": PASSWORD},
            "tls": {
                "ca": f"{pki}/ca.pem",
                "certificate": f"{pki}/host.pem",
                "key": f"{pki}/host.key",
            },
            "etcd": {"port": port},
            "pgbouncer": {"port": 6432, "socket_dir": "/run/pgbouncer", "tool": TOOL},
        }
