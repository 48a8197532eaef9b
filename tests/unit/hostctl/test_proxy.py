"""proxy: a planned switchover cuts off nobody, and nothing stays held.

The fake does what HAProxy 2.6.12 was seen to do: a server whose checks are disabled keeps its state
and its connections; one that checks call down loses them; a drained one gets none, and keeps its own.
"""

from __future__ import annotations

import shutil
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import proxy, undo
from backline.hostctl.errors import HostctlError, Refused
from backline.hostctl.host import Completed, Host
from backline.hostctl.names import Request

from .fake_haproxy import COLUMNS
from .fake_host import short_folder

BACKENDS = {"primary": "leads", "replicas": "follows"}


class FakeProxy:
    """Two members behind it; `leader` is who leads now. Time passes with `sleep` alone."""

    def __init__(self, root: Path) -> None:
        self.root, self.leader, self.clock = root, "db1", 1000.0
        self.keys = [(backend, name) for backend in BACKENDS for name in ("db1", "db2")]
        self.up = {key: self.good(key) for key in self.keys}
        self.checked = dict.fromkeys(self.keys, True)
        self.drained = dict.fromkeys(self.keys, False)
        self.sessions = dict.fromkeys(self.keys, 0)
        self.failed = dict.fromkeys(self.keys, 0)
        self.refuses = ""
        self.answers_by = ""
        self.commands: list[str] = []
        self.timers: dict[str, str] = {}
        self.timers_seen: list[int] = []  # how many there were whenever one was added
        self.at_work: set[str] = set()
        self.schedules = True
        self.host = Host(root, run=self.run, boottime=lambda: self.clock, sleep=self.sleep)
        folder = root / "run/database-proxy"
        folder.mkdir(parents=True)
        (root / "var/lib/backline").mkdir(parents=True)
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(fake.answer(self.rfile.readline().decode().strip()).encode())

        self.server = socketserver.ThreadingUnixStreamServer(str(folder / "admin.sock"), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def good(self, key: tuple[str, str]) -> bool:
        return (key[1] == self.leader) == (key[0] == "primary")

    def sleep(self, seconds: float) -> None:
        before = int(self.clock)
        self.clock += seconds
        for _ in range(int(self.clock) - before):
            self.check()

    def check(self) -> None:
        """One check of each server: two that fail, and its connections end."""
        for key in self.keys:
            if not self.checked[key]:
                continue
            self.failed[key] = 0 if self.good(key) else self.failed[key] + 1
            if self.good(key):
                self.up[key] = True
            elif self.failed[key] >= 2:
                self.up[key] = False
                self.sessions[key] = 0

    def connect(self, backend: str = "primary") -> str:
        """Who gets a new connection."""
        key = next(k for k in self.keys if k[0] == backend and self.up[k] and not self.drained[k])
        self.sessions[key] += 1
        return key[1]

    def run(self, argv: Any, **options: Any) -> Completed:
        words = list(argv)
        if words[0] == "systemd-run":
            if not self.schedules:
                return Completed(1, "", "no")
            named = dict(word[2:].partition("=")[::2] for word in words if word[:2] == "--")
            if named["unit"] in {*self.timers, *self.at_work}:
                return Completed(1, "", f"Unit {named['unit']}.timer was already loaded")
            self.timers_seen.append(len(self.timers))
            self.timers[named["unit"]] = named["on-active"]
        elif words[:2] == ["systemctl", "stop"]:
            for word in words[2:]:
                self.timers.pop(word.removesuffix(".timer"), None)
        elif words[:2] == ["systemctl", "show"]:
            return Completed(0, "\n\n".join(map(self._state, words[4:])), "")
        return Completed(0, "", "")

    def _state(self, timer: str) -> str:
        name = timer.removesuffix(".timer")
        return "running" if name in self.at_work else "waiting" if name in self.timers else "dead"

    def elapse(self) -> None:
        """Its time has come: the service runs, and systemd calls the timer running."""
        self.at_work = {self.timers.popitem()[0]}

    def answer(self, command: str) -> str:
        if command == "show servers state":
            return "\n".join(["1", COLUMNS, *map(self._row, self.keys), "", ""])
        if command == "show stat":
            rows = [f"{b},{n},{self.sessions[b, n]},UP," for b, n in self.keys]
            return "\n".join(["# pxname,svname,scur,status,", *rows, "primary,BACKEND,9,UP,", ""])
        self.commands.append(command)
        if self.refuses and self.refuses in command:
            return "No such server.\n"
        words = command.split()
        backend, _, name = words[2].partition("/")
        key = (backend, name)
        if words[:2] == ["set", "server"]:
            self.drained[key] = words[4] == "drain"
        else:
            self.checked[key] = words[0] == "enable"
            self.failed[key] = 0
        return "\n"

    def _row(self, key: tuple[str, str]) -> str:
        up, admin = 2 if self.up[key] else 0, 8 if self.drained[key] else 0
        server, checks = f"4 {key[0]} 1 {key[1]} 198.51.100.1", 6 if self.checked[key] else 2
        return f"{server} {up} {admin} 1 1 9 15 3 3 {checks} 0 0 0 - 6432 - 0 0 - - 0"


@pytest.fixture
def fake() -> Iterator[FakeProxy]:
    root = short_folder()
    made = FakeProxy(root)
    yield made
    made.close()
    shutil.rmtree(root)


def ask(fake: FakeProxy, action: str, **fields: Any) -> Any:
    return proxy.proxy(fake.host, Request("proxy", {"action": action, **fields}))


def hold(fake: FakeProxy, **fields: Any) -> Any:
    return ask(fake, "hold", leader="db1", candidate="db2", **fields)


def test_nobody_is_cut_off_while_nobody_leads_and_new_ones_go_to_the_new_leader(
    fake: FakeProxy,
) -> None:
    assert fake.connect() == "db1" and fake.connect("replicas") == "db2"
    assert hold(fake)["already"] is False
    fake.leader = "nobody"
    fake.sleep(10)
    assert fake.connect() == "db1", "it waits in the paused PgBouncer"
    fake.leader = "db2"
    fake.sleep(3)
    assert fake.connect() == "db1", "not before it is known to take writes"
    ask(fake, "shift", leader="db2")
    assert fake.connect() == "db2"
    assert fake.sessions["primary", "db1"] == 3 and fake.sessions["replicas", "db2"] == 1
    assert ask(fake, "release")["held"] == []
    assert fake.sessions["primary", "db1"] == 0, "checks decide again"
    assert fake.connect() == "db2" and fake.connect("replicas") == "db1"


def test_without_a_hold_the_same_cuts_everybody_off(fake: FakeProxy) -> None:
    """Else the fake would let the test above pass whatever `hold` does."""
    fake.connect()
    fake.leader = "nobody"
    fake.sleep(3)
    assert fake.sessions["primary", "db1"] == 0


def test_when_the_old_leader_stays_release_cuts_off_nobody(fake: FakeProxy) -> None:
    fake.connect(), fake.connect("replicas")
    hold(fake)
    ask(fake, "release")
    fake.sleep(5)
    assert fake.sessions["primary", "db1"] == 1 and fake.sessions["replicas", "db2"] == 1
    assert fake.connect() == "db1" and fake.connect("replicas") == "db2"
    assert fake.timers == {}


def test_a_server_gets_nothing_new_before_checks_have_decided(fake: FakeProxy) -> None:
    hold(fake)
    fake.leader = "db2"
    fake.sleep(3)
    ask(fake, "shift", leader="db2")
    ask(fake, "release")
    ready = fake.commands.index("set server primary/db1 state ready")
    assert fake.commands.index("enable health primary/db1") < ready
    assert fake.up["primary", "db1"] is False


def test_each_may_be_said_again(fake: FakeProxy) -> None:
    assert [hold(fake)["already"] for _ in range(2)] == [False, True]
    fake.leader = "db2"
    fake.sleep(3)
    assert [ask(fake, "shift", leader="db2")["already"] for _ in range(2)] == [False, True]
    assert [ask(fake, "release")["already"] for _ in range(2)] == [False, True]


def test_the_host_lets_go_by_itself(fake: FakeProxy) -> None:
    hold(fake, seconds=45)
    assert fake.timers == {"backline-undo-proxy": "45s"}
    assert ask(fake, "status")["undone_by_itself"] is True
    fake.elapse()
    assert undo.run(fake.host, ["proxy"]) == 0
    assert ask(fake, "status")["held"] == [] and fake.timers == {}


def test_a_new_timer_is_there_before_the_old_one_goes(fake: FakeProxy) -> None:
    """Who is killed in between leaves nothing that is held for ever."""
    for seconds in (45, 60, 75):
        hold(fake, seconds=seconds)
        assert list(fake.timers.values()) == [f"{seconds}s"]
    assert fake.timers_seen == [0, 1, 1]


def test_a_hold_while_the_timer_of_an_older_one_is_at_work(fake: FakeProxy) -> None:
    hold(fake, seconds=45)
    fake.elapse()
    hold(fake, seconds=60)
    assert fake.timers == {"backline-undo-proxy-2": "60s"}
    assert undo.run(fake.host, ["proxy"]) == 0
    assert ask(fake, "status")["held"], "it has a timer of its own"
    fake.elapse()
    assert undo.run(fake.host, ["proxy"]) == 0
    assert not ask(fake, "status")["held"]


def test_nothing_is_held_without_the_timer_that_ends_it(fake: FakeProxy) -> None:
    fake.schedules = False
    with pytest.raises(HostctlError) as caught:
        hold(fake)
    assert caught.value.code == "systemd_failed"
    assert fake.commands == []


@pytest.mark.parametrize("command", ["disable health primary", "set server primary", "replicas"])
def test_a_hold_that_fails_half_way_is_taken_back(fake: FakeProxy, command: str) -> None:
    fake.refuses = command
    with pytest.raises(HostctlError) as caught:
        hold(fake)
    assert caught.value.code == "proxy_refused"
    fake.refuses = ""
    assert ask(fake, "status")["held"] == [] and fake.timers == {}


def test_shift_waits_for_a_good_check_and_fails_closed(fake: FakeProxy) -> None:
    hold(fake)
    with pytest.raises(HostctlError) as caught:
        ask(fake, "shift", leader="db2")
    assert caught.value.code == "not_up"
    assert fake.connect() == "db1"


def test_a_standby_is_drained_before_it_is_restarted(fake: FakeProxy) -> None:
    fake.leader = "db3"
    fake.sleep(3)
    assert fake.connect("replicas") == "db1"
    assert [ask(fake, "drain", server="db1")["already"] for _ in range(2)] == [False, True]
    assert fake.connect("replicas") == "db2" and fake.sessions["replicas", "db1"] == 1
    assert list(fake.timers.values()) == ["180s"]
    ask(fake, "release")
    assert fake.connect("replicas") == "db1" and fake.timers == {}


def test_a_leader_is_not_drained(fake: FakeProxy) -> None:
    with pytest.raises(Refused) as caught:
        ask(fake, "drain", server="db1")
    assert caught.value.code == "is_leader" and fake.commands == []


def test_what_is_refused(fake: FakeProxy) -> None:
    for fields, code in (
        ({"leader": "db9", "candidate": "db2"}, "unknown_server"),
        ({"leader": "db1", "candidate": "db9"}, "unknown_server"),
        ({"leader": "db2", "candidate": "db1"}, "not_leader"),
        ({"leader": "db1", "candidate": "db1"}, "no_candidate"),
    ):
        with pytest.raises(HostctlError) as caught:
            ask(fake, "hold", **fields)
        assert caught.value.code == code
    assert fake.commands == [] and fake.timers == {}
    hold(fake)
    fake.up["primary", "db2"] = True
    with pytest.raises(Refused) as refused:
        ask(fake, "hold", leader="db2", candidate="db1")
    assert refused.value.code == "held"


def test_only_the_run_that_holds_it_lets_go(fake: FakeProxy) -> None:
    """Another one would cut off the clients that wait."""
    fake.connect()
    assert hold(fake, run="ann-1")["run"] == "ann-1"
    for action, fields in (
        ("hold", {"leader": "db1", "candidate": "db2", "seconds": 20}),
        ("shift", {"leader": "db1"}),
        ("drain", {"server": "db2"}),
        ("release", {}),
    ):
        for run in ({"run": "bob-1"}, {}):
            with pytest.raises(Refused, match="ann-1") as caught:
                ask(fake, action, **fields, **run)
            assert caught.value.code == "held"
    assert fake.timers == {"backline-undo-proxy": "180s"}
    fake.leader = "nobody"
    fake.sleep(10)
    assert fake.sessions["primary", "db1"] == 1
    assert hold(fake, run="ann-1")["already"] is True
    assert ask(fake, "release", run="ann-1")["run"] is None
    assert ask(fake, "status")["held"] == []


def test_a_hold_without_a_name_is_anybodys_but_no_run_adopts_it(fake: FakeProxy) -> None:
    hold(fake)
    with pytest.raises(Refused) as caught:
        hold(fake, run="ann-1")
    assert caught.value.code == "held"
    assert ask(fake, "release", run="ann-1")["already"] is False


def test_a_run_whose_hold_is_gone_is_in_nobodys_way(fake: FakeProxy) -> None:
    hold(fake, run="ann-1")
    fake.checked = dict.fromkeys(fake.keys, True)  # HAProxy was started anew
    fake.drained = dict.fromkeys(fake.keys, False)
    ask(fake, "drain", server="db2")
    assert ask(fake, "status")["run"] is None
    assert ask(fake, "release")["held"] == []
    hold(fake, run="bob-1")
    fake.elapse()
    assert undo.run(fake.host, ["proxy"]) == 0
    assert hold(fake, run="ann-1")["run"] == "ann-1"


def test_a_host_without_a_proxy(tmp_path: Path) -> None:
    with pytest.raises(HostctlError) as caught:
        proxy.proxy(Host(tmp_path), Request("proxy", {"action": "status"}))
    assert caught.value.code == "no_proxy"
