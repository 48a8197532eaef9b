"""HAProxy's admin and master sockets as HAProxy 2.6 answers them, and its way to start."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from .fake_host import Lab

STATE = "var/lib/haproxy/backline-servers"
MAP = "etc/haproxy/maintenance.map"
FIELDS = 25
MAINT = 1
COLUMNS = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state "
    "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl "
    "srv_check_port srv_check_addr srv_agent_addr srv_agent_port"
)
TWO = {"streaming": ["stream1", "stream2"]}


class FakeHaproxy:
    """Servers by backend; `health` is that of the last check. It ends with the lab's systemd."""

    def __init__(self, lab: Lab, backends: Mapping[str, list[str]] = TWO) -> None:
        self.lab = lab
        self.names = [(backend, name) for backend in backends for name in backends[backend]]
        self.admin: dict[tuple[str, str], int] = {}
        self.health: dict[tuple[str, str], str] = {}
        self.commands: list[str] = []
        self.before: Callable[[str], None] = lambda command: None
        self.refuses = ""
        self.pid = 100
        for folder in ("run/haproxy", "var/lib/haproxy"):
            lab.path(folder).mkdir(parents=True, exist_ok=True)
        self.start()
        for name in ("admin", "master"):
            self._listen(name)

    def start(self) -> None:
        """A new worker: everything is up, but what the state file has in maintenance."""
        self.pid += 1
        stored = self._stored()
        self.admin = {server: stored.get(server, 0) for server in self.names}
        self.health = dict.fromkeys(self.names, "up")
        path = self.lab.path(MAP)
        lines = path.read_text().splitlines() if path.exists() else []
        self.map = dict(line.split(" ", 1) for line in lines)

    def _stored(self) -> dict[tuple[str, str], int]:
        path = self.lab.path(STATE)
        lines = path.read_text().splitlines() if path.exists() else []
        if not lines or lines[0] != "1":
            return {}  # HAProxy warns and goes on
        rows = [line.split() for line in lines[1:] if not line.startswith("#")]
        for row in rows:
            assert len(row) == FIELDS, f"HAProxy would ignore the whole file: {row}"
            assert row[10] == "1", "HAProxy 2.6 crashes when this server comes back"
            assert (row[4], row[7], row[8]) == ("-", "1", "1"), row
        return {(row[1], row[3]): int(row[6]) for row in rows}

    def out(self) -> set[str]:
        """backend/server of each that gets no listener because it was said so."""
        return {"/".join(server) for server, admin in self.admin.items() if admin & MAINT}

    def _listen(self, name: str) -> None:
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode().strip()
                answers = [fake.answer(command.strip()) for command in line.split(";")]
                self.wfile.write("".join(answers).encode())

        path = self.lab.path(f"run/haproxy/{name}.sock")
        server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.lab.systemd.servers[f"haproxy-{name}"] = server

    def stop(self) -> None:
        for name in ("admin", "master"):
            self.lab.systemd._unserve(f"haproxy-{name}")
            self.lab.path(f"run/haproxy/{name}.sock").unlink()

    def answer(self, command: str) -> str:
        self.before(command)
        self.commands.append(command)
        if command == "show servers state":
            return "\n".join(["1", COLUMNS, *map(self._row, self.names), "", ""])
        if command.startswith(("show map", "del map", "add map")):
            return self._map(command.split())
        if command == "show info":
            return f"Name: HAProxy\nVersion: 2.6.12\nPid: {self.pid}\nUptime: 0d\n\n"
        if command == "show proc":
            return (
                "#<PID> <type> <reloads> <uptime> <version>\n7 master 1 [failed: 0] 0d 2.6.12\n"
                f"# workers\n{self.pid} worker 0 0d 2.6.12\n"
                f"# old workers\n{self.pid - 1} worker 1 0d 2.6.12\n# programs\n\n"
            )
        return self._set(command.split())

    def _map(self, words: list[str]) -> str:
        assert words[2] == "/" + MAP and len(words) <= 5 and len(" ".join(words)) < 16384
        if words[0] == "show":
            rows = [f"0x55c716a0d400 {key} {value}" for key, value in self.map.items()]
            return "\n".join([*rows, "", ""])
        if words[0] == "del":
            return "\n" if self.map.pop(words[3], None) else "Key not found.\n\n"
        if self.refuses:
            return self.refuses + "\n\n"
        assert words[3] not in self.map, "HAProxy would keep both, and show the first"
        self.map[words[3]] = words[4]
        return "\n"

    def _set(self, words: list[str]) -> str:
        server = tuple(words[2].split("/"))
        if words[:2] != ["set", "server"] or server not in self.admin:
            return "No such server.\n\n"
        if self.refuses:
            return self.refuses + "\n\n"
        backend, name = server
        if words[3:] == ["health", "down"]:
            self.health[backend, name] = "down"
        else:
            self.admin[backend, name] = {"maint": MAINT, "ready": 0}[words[4]]
        return "\n"

    def _row(self, server: tuple[str, str]) -> str:
        operational = 2 if self.health[server] == "up" and not self.admin[server] else 0
        number = self.names.index(server) + 1
        return (
            f"4 {server[0]} {number} {server[1]} 198.51.100.{number} {operational} "
            f"{self.admin[server]} 1 1 9 15 3 3 6 0 0 0 - 8080 - 0 0 - - 0"
        )


def state_file(lab: Lab) -> Path:
    return lab.path(STATE)
