"""What the next worker begins with, and whom an old one has to let go."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/database_proxy/files/database-proxy"
HEADER = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …"


@pytest.fixture(scope="module")
def proxy() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("database_proxy", str(PROGRAM))
    spec = importlib.util.spec_from_loader("database_proxy", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def row(backend: str, name: str, state: int, port: int = 6432, numbers: str = "0 0") -> str:
    backend_id, server_id = numbers.split()
    return (
        f"{backend_id} {backend} {server_id} {name} 198.51.100.31 {state} 0 1 1 7 6 3 2 6 0 0 0"
        f" - {port} - 0 0 - - 0"
    )


def file(*rows: str) -> str:
    return "\n".join(["1", HEADER, *rows]) + "\n"


def test_what_is_known_is_kept_and_who_is_new_begins_as_down(proxy: ModuleType) -> None:
    configured = file(*(row("primary", name, 0) for name in ("db1", "db2", "db3")))
    known = file(row("primary", "db1", 2, numbers="4 1"), row("primary", "db2", 0, numbers="4 2"))
    assert proxy.merged(configured, known) == file(
        row("primary", "db1", 2, numbers="4 1"),
        row("primary", "db2", 0, numbers="4 2"),
        row("primary", "db3", 0),
    )


def test_who_left_is_forgotten_and_another_port_is_another_server(proxy: ModuleType) -> None:
    configured = file(row("primary", "db1", 0, port=7432))
    known = file(row("primary", "db1", 2), row("primary", "db9", 2))
    assert proxy.merged(configured, known) == configured


@pytest.mark.parametrize("known", ["", "Unknown command", "1\n# nothing\n"])
def test_without_an_answer_everybody_begins_as_down(proxy: ModuleType, known: str) -> None:
    configured = file(row("primary", "db1", 0))
    assert proxy.merged(configured, known) == configured


STAT = """# pxname,svname,qcur,qmax,scur,smax,slim,status,
writer,FRONTEND,,,3,9,500,OPEN,
primary,db1,0,0,3,9,,{0},
primary,db2,0,0,0,9,,{1},
primary,BACKEND,0,0,3,9,100,UP,
metrics,FRONTEND,,,1,1,500,OPEN,
"""
# As HAProxy 2.6 says it, shortened.
SESSIONS = """0x559735b8f8a0: proto=tcpv4 src=127.0.0.1:42164 fe=writer be=primary srv=db1 ts=00 epoch=0
0x559735b8f8b0: proto=tcpv4 src=127.0.0.1:42165 fe=reader be=primary srv=db2 ts=00 epoch=0
0x559735b8f8c0: proto=tcpv4 src=127.0.0.1:42166 fe=metrics be=metrics srv=<none> ts=00 epoch=0
0x7f4ef0041080: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s

"""
ONE, TWO = ("0x559735b8f8a0", ("primary", "db1")), ("0x559735b8f8b0", ("primary", "db2"))


def test_only_servers_and_their_sessions_are_read(proxy: ModuleType) -> None:
    found = proxy.servers(STAT.format("UP", "DOWN"))
    assert found == {("primary", "db1"): "UP", ("primary", "db2"): "DOWN"}
    assert proxy.sessions(SESSIONS) == [ONE, TWO]
    assert proxy.servers("") == {} and proxy.sessions("\n") == []


@pytest.mark.parametrize(
    ("state", "gone"),
    [
        ("UP", False),
        ("UP 1/2", False),
        ("DOWN", True),
        ("DOWN (agent)", True),
        ("MAINT", True),
        ("no check", False),
    ],
)
def test_an_old_worker_lets_go_of_who_is_down(proxy: ModuleType, state: str, gone: bool) -> None:
    now = proxy.servers(STAT.format(state, "UP"))
    assert proxy.let_go(now, proxy.sessions(SESSIONS)) == ([ONE] if gone else [])


def test_and_of_who_is_not_configured_any_more(proxy: ModuleType) -> None:
    now = {("primary", "db2"): "UP"}
    assert proxy.let_go(now, proxy.sessions(SESSIONS)) == [ONE]


def test_but_of_nobody_when_nothing_is_known(proxy: ModuleType) -> None:
    assert proxy.let_go({}, proxy.sessions(SESSIONS)) == []
