"""balance: who is kept out of a balancer stays out, whatever happens to HAProxy or to hostctl."""

from __future__ import annotations

import socket
import stat
from typing import Any

import pytest

from backline.hostctl import files

from .fake_haproxy import COLUMNS, FakeHaproxy, state_file
from .fake_host import Lab

ALONE: dict[str, Any] = {"app": ..., "run": ..., "token": ...}


@pytest.fixture
def haproxy(lab: Lab) -> FakeHaproxy:
    return FakeHaproxy(lab)


def balance(lab: Lab, action: str, server: str = "stream1") -> Any:
    return lab.ok("balance", action=action, server=server, **ALONE)


def shown(lab: Lab) -> Any:
    return lab.ok("balance", action="show", **ALONE)


def test_out_and_in_and_each_again(lab: Lab, haproxy: FakeHaproxy) -> None:
    answer = {"ok": True, "out": True, "already": False, "backends": ["streaming"]}
    assert balance(lab, "out") == answer
    assert haproxy.out() == {"streaming/stream1"}
    assert balance(lab, "out") == {**answer, "already": True}
    assert balance(lab, "in") == {**answer, "out": False}
    assert haproxy.out() == set()
    assert balance(lab, "in") == {**answer, "out": False, "already": True}


def test_it_outlives_a_restart_and_touches_nobody_else(lab: Lab, haproxy: FakeHaproxy) -> None:
    balance(lab, "out")
    haproxy.start()
    assert haproxy.out() == {"streaming/stream1"}
    assert balance(lab, "out")["already"] is True
    balance(lab, "in")
    haproxy.start()
    assert haproxy.out() == set()


def test_the_file_is_what_haproxy_reads(lab: Lab, haproxy: FakeHaproxy) -> None:
    balance(lab, "out")
    line = "0 streaming 0 stream1 - 0 1 1 1 0 1 0 0 0 0 0 0 - 8080 - 0 0 - - 0"
    assert state_file(lab).read_text() == f"1\n{COLUMNS}\n{line}\n"
    assert stat.S_IMODE(state_file(lab).stat().st_mode) == 0o644
    balance(lab, "in")
    assert state_file(lab).read_text() == f"1\n{COLUMNS}\n"


def test_who_comes_back_is_down_until_its_checks_have_passed(
    lab: Lab, haproxy: FakeHaproxy
) -> None:
    balance(lab, "out")
    balance(lab, "in")
    assert shown(lab)["servers"] == {"streaming": {"stream1": "down", "stream2": "up"}}
    haproxy.health = dict.fromkeys(haproxy.names, "up")
    balance(lab, "in")
    assert shown(lab)["servers"]["streaming"]["stream1"] == "up"


def test_every_backend_that_has_it(lab: Lab) -> None:
    haproxy = FakeHaproxy(lab, {"a": ["stream1", "stream2"], "b": ["stream1"], "c": ["stream2"]})
    assert balance(lab, "out")["backends"] == ["a", "b"]
    assert haproxy.out() == {"a/stream1", "b/stream1"}


def test_two_servers_are_kept_out_apart(lab: Lab, haproxy: FakeHaproxy) -> None:
    balance(lab, "out", "stream1")
    balance(lab, "out", "stream2")
    balance(lab, "in", "stream1")
    haproxy.start()
    assert haproxy.out() == {"streaming/stream2"}


def test_show(lab: Lab, haproxy: FakeHaproxy) -> None:
    servers = {"stream1": "up", "stream2": "up"}
    assert shown(lab) == {"ok": True, "out": [], "servers": {"streaming": servers}}
    balance(lab, "out")
    servers["stream1"] = "maint"
    assert shown(lab) == {"ok": True, "out": ["stream1"], "servers": {"streaming": servers}}


def test_what_an_operator_did_by_hand_is_not_made_durable(lab: Lab, haproxy: FakeHaproxy) -> None:
    haproxy.answer("set server streaming/stream2 state maint")
    balance(lab, "out", "stream1")
    assert haproxy.out() == {"streaming/stream1", "streaming/stream2"}
    haproxy.start()
    assert haproxy.out() == {"streaming/stream1"}


def test_let_in_by_hand_is_put_out_by_saying_it_again(lab: Lab, haproxy: FakeHaproxy) -> None:
    balance(lab, "out")
    haproxy.answer("set server streaming/stream1 state ready")
    assert balance(lab, "out")["already"] is False
    assert haproxy.out() == {"streaming/stream1"}


def test_an_unknown_server(lab: Lab, haproxy: FakeHaproxy) -> None:
    for action in ("out", "in"):
        _, answer = lab.call("balance", action=action, server="stream9", **ALONE)
        assert answer["error"]["code"] == "unknown_server"
        assert answer["error"]["servers"] == ["stream1", "stream2"]
    assert not state_file(lab).exists()


def test_who_left_the_configuration_is_kept_out_when_it_returns_or_forgotten(
    lab: Lab, haproxy: FakeHaproxy
) -> None:
    balance(lab, "out")
    haproxy.names.remove(("streaming", "stream1"))
    haproxy.start()
    balance(lab, "out", "stream2")
    assert shown(lab)["out"] == ["stream1", "stream2"]
    assert balance(lab, "in", "stream1")["backends"] == []
    assert shown(lab)["out"] == ["stream2"]


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a;b", "a\n", "-a", "é", "#1", "a" * 300, 7, None, ...]
)
def test_odd_names_are_refused(lab: Lab, haproxy: FakeHaproxy, name: object) -> None:
    assert lab.refused("balance", action="out", server=name, **ALONE)[0] == 2
    assert haproxy.commands == []


def test_no_haproxy_here(lab: Lab) -> None:
    for action in ("out", "in", "show"):
        fields = {**ALONE, "action": action, "server": "stream1"}
        assert lab.refused("balance", **fields) == (1, "no_balancer")
    assert lab.ok("facts")["balancer"] is False


def test_a_haproxy_that_is_down(lab: Lab, haproxy: FakeHaproxy) -> None:
    assert lab.ok("facts")["balancer"] is True
    haproxy.stop()
    assert lab.ok("facts")["balancer"] is False
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(lab.path("run/haproxy/admin.sock")))
    fields = {**ALONE, "action": "out", "server": "stream1"}
    assert lab.refused("balance", **fields) == (1, "balancer_failed")


def test_haproxys_own_words(lab: Lab, haproxy: FakeHaproxy) -> None:
    haproxy.refuses = "Permission denied."
    _, answer = lab.call("balance", action="out", server="stream1", **ALONE)
    assert answer["error"]["code"] == "balancer_refused"
    assert "Permission denied." in answer["error"]["message"]
    haproxy.refuses = ""
    assert balance(lab, "out")["already"] is False


@pytest.mark.parametrize("content", [None, "", "1\n", "garbage\0\n", "1\n4 streaming 1 stream2"])
def test_a_missing_or_damaged_file_is_made_anew(
    lab: Lab, haproxy: FakeHaproxy, content: str | None
) -> None:
    if content is not None:
        state_file(lab).write_text(content)
    assert shown(lab)["out"] == []
    balance(lab, "out")
    haproxy.start()
    assert haproxy.out() == {"streaming/stream1"}


def test_a_whole_dump_in_the_file_is_cut_down_to_who_is_out(lab: Lab, haproxy: FakeHaproxy) -> None:
    haproxy.answer("set server streaming/stream2 state maint")
    state_file(lab).write_text(haproxy.answer("show servers state"))
    balance(lab, "out", "stream1")
    haproxy.start()
    assert haproxy.out() == {"streaming/stream1", "streaming/stream2"}
    assert "198.51.100" not in state_file(lab).read_text()


@pytest.mark.parametrize("action", ["out", "in"])
def test_a_reload_at_every_moment(lab: Lab, haproxy: FakeHaproxy, action: str) -> None:
    """The new worker has read the file before a question, and answers from the next one on."""
    other = {"out": "in", "in": "out"}[action]
    state_file(lab).write_text("1\n")
    for moment in range(1, 10):
        balance(lab, other)
        asked: list[str] = []
        old = state_file(lab).read_text()

        def reload_at(
            command: str, asked: list[str] = asked, moment: int = moment, old: str = old
        ) -> None:
            asked.append(command)
            if len(asked) == moment:
                now = state_file(lab).read_text()
                state_file(lab).write_text(old)
                haproxy.start()
                state_file(lab).write_text(now)

        haproxy.before = reload_at
        balance(lab, action)
        haproxy.before = lambda command: None
        last = len(asked) < moment
        assert haproxy.out() == ({"streaming/stream1"} if action == "out" else set()), moment
    assert last, "not every moment was tried"


def test_two_at_once(lab: Lab, haproxy: FakeHaproxy) -> None:
    with files.locked(lab.host, lab.path("var/lib/backline/balance.lock")):
        fields = {**ALONE, "action": "out", "server": "stream1"}
        assert lab.refused("balance", **fields) == (1, "busy")


def test_journald_is_told_once_who_and_why(lab: Lab, haproxy: FakeHaproxy) -> None:
    folder = lab.path("run/systemd/journal")
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(folder / "socket"))
        journald.setblocking(False)
        for _ in range(2):
            lab.ok("balance", action="out", server="stream1", actor="ann", message="gone", app=...)
        said = journald.recv(65536)
        with pytest.raises(BlockingIOError):
            journald.recv(65536)
    assert b"balance done action=out server=stream1" in said
    assert b"BACKLINE_ACTOR" in said and b"ann" in said and b"gone" in said
