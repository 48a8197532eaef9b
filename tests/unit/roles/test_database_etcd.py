"""etcd's members come and go safely, and its users are kept, on an etcd made of a dictionary."""

from __future__ import annotations

import shlex
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
SHARED = "ansible.module_utils.database_etcd"


@pytest.fixture
def modules(load: Load, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return a function that loads one of the role's modules, with what they share."""
    shared = load("database/module_utils/database_etcd.py")
    monkeypatch.setitem(sys.modules, SHARED, shared)
    monkeypatch.setattr(shared.time, "sleep", lambda _: None)
    yield lambda name: load(f"database/library/{name}.py")


def member(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "name": f"db{number}",
        "peers": [f"https://db{number}:2380"],
        "clients": [f"https://db{number}:2379"],
        "learner": False,
        **more,
    }


class Fake:
    """What the modules use of an Etcd."""

    def __init__(
        self, error: type[Exception], members: list[dict[str, Any]], sick: tuple[int, ...] = ()
    ) -> None:
        self.error, self.list, self.sick = error, members, {str(number) for number in sick}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refuse = 0
        self.endpoints = ["https://db1:2379"]

    def members(self) -> list[dict[str, Any]]:
        return list(self.list)

    def healthy(self, one: dict[str, Any]) -> bool:
        return bool(one["clients"]) and one.get("id") not in self.sick

    def call(self, path: str, body: dict[str, Any]) -> Any:
        if self.refuse:
            self.refuse -= 1
            raise self.error("etcdserver: unhealthy cluster")
        self.calls.append((path, body))
        if path == "/cluster/member/remove":
            self.list = [one for one in self.list if one["id"] != body["ID"]]
        if path == "/cluster/member/add":
            return {"member": {"peerURLs": body["peerURLs"]}}
        return {}


def test_a_new_member_has_no_vote_at_first(modules: Callable[[str], ModuleType]) -> None:
    module = modules("database_etcd_member")
    etcd = Fake(module.EtcdError, [member(1)])
    etcd.refuse = 3
    pairs, removed = module.joining(etcd, "db2", "https://db2:2380", 60)
    assert pairs == "db1=https://db1:2380,db2=https://db2:2380"
    assert removed == []
    assert etcd.calls == [
        ("/cluster/member/add", {"peerURLs": ["https://db2:2380"], "isLearner": True})
    ]


def test_what_an_interrupted_run_added_is_used(modules: Callable[[str], ModuleType]) -> None:
    module = modules("database_etcd_member")
    etcd = Fake(module.EtcdError, [member(1), member(2, name="", clients=[], learner=True)])
    pairs, _ = module.joining(etcd, "db2", "https://db2:2380", 60)
    assert pairs == "db1=https://db1:2380,db2=https://db2:2380"
    assert etcd.calls == []


def test_a_host_built_anew_takes_the_place_of_what_it_was(
    modules: Callable[[str], ModuleType],
) -> None:
    module = modules("database_etcd_member")
    etcd = Fake(module.EtcdError, [member(1), member(2), member(3)], sick=(2,))
    pairs, removed = module.joining(etcd, "db2", "https://db2:2380", 60)
    assert removed == ["db2"]
    assert pairs == "db1=https://db1:2380,db3=https://db3:2380,db2=https://db2:2380"
    assert [path for path, _ in etcd.calls] == ["/cluster/member/remove", "/cluster/member/add"]


def test_nobody_is_removed_who_serves_or_is_needed(modules: Callable[[str], ModuleType]) -> None:
    module = modules("database_etcd_member")
    etcd = Fake(module.EtcdError, [member(1), member(2), member(3)])
    with pytest.raises(module.Refused, match="db2 still serves"):
        module.absent(etcd, ["db1", "db3"], [], False)
    etcd = Fake(module.EtcdError, [member(1), member(2), member(3)], sick=(2, 3))
    with pytest.raises(module.Refused, match="no healthy majority of db1, db3"):
        module.absent(etcd, ["db1", "db3"], [], False)
    assert etcd.calls == []


def test_who_is_gone_is_removed_one_at_a_time(modules: Callable[[str], ModuleType]) -> None:
    module = modules("database_etcd_member")
    five = [member(number) for number in range(1, 6)]
    etcd = Fake(module.EtcdError, five, sick=(4, 5))
    assert module.absent(etcd, ["db1", "db2", "db3"], [], False) == ["db4", "db5"]
    assert [body["ID"] for _, body in etcd.calls] == ["4", "5"]


def test_a_rehearsal_removes_nobody(modules: Callable[[str], ModuleType]) -> None:
    module = modules("database_etcd_member")
    etcd = Fake(module.EtcdError, [member(1), member(2)], sick=(2,))
    assert module.absent(etcd, ["db1"], [], True) == ["db2"]
    assert etcd.calls == []


def test_a_vote_is_given_once(modules: Callable[[str], ModuleType]) -> None:
    module = modules("database_etcd_member")
    etcd = Fake(module.EtcdError, [member(1), member(2, learner=True)])
    etcd.refuse = 2
    assert module.voting(etcd, "db2", 60, False) is True
    assert etcd.calls == [("/cluster/member/promote", {"ID": "2"})]
    assert module.voting(Fake(module.EtcdError, [member(1), member(2)]), "db2", 60, False) is False


class Users:
    """An etcd that has users: what its gateway answers about them."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error
        self.users: dict[str, str] = {}
        self.roles: dict[str, list[dict[str, str]]] = {}
        self.held: dict[str, list[str]] = {}
        self.enabled = False
        self.endpoints: list[str] = []
        self.tls = None

    def sign_in(self, user: str, password: str) -> bool:
        if self.enabled and self.users.get(user) != password:
            raise self.error("etcdserver: authentication failed, invalid user ID or password")
        return self.enabled

    def call(self, path: str, body: dict[str, Any]) -> Any:
        name = body.get("name", "")
        if path == "/auth/user/list":
            return {"users": list(self.users)}
        if path == "/auth/role/list":
            return {"roles": list(self.roles)}
        if path == "/auth/role/get":
            return {"perm": list(self.roles[body["role"]])}
        if path == "/auth/user/get":
            return {"roles": self.held.get(name, [])}
        if path in ("/auth/user/add", "/auth/user/changepw"):
            self.users[name] = body["password"]
        elif path == "/auth/role/add":
            self.roles[name] = []
        elif path == "/auth/role/grant":
            self.roles[name].append(body["perm"])
        elif path == "/auth/role/revoke":
            self.roles[body["role"]] = [
                p for p in self.roles[body["role"]] if p["key"] != body["key"]
            ]
        elif path == "/auth/user/grant":
            self.held.setdefault(body["user"], []).append(body["role"])
        elif path == "/auth/enable":
            assert "root" in self.held.get("root", []), "etcd refuses that"
            self.enabled = True
        return {}


@pytest.fixture
def auth(modules: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, an etcd without users, and a run of it."""
    module = modules("database_etcd_auth")
    etcd = Users(module.EtcdError)
    monkeypatch.setattr(module, "Etcd", lambda *_: etcd)
    given = {
        "root_password": "one",
        "user": "patroni",
        "password": "two",
        "prefix": "/service/music/",
        "change_password": True,
        "enable": True,
        "seconds": 0,
        "remembered": "/nowhere",
    }

    def run(dry: bool = False, **more: Any) -> list[str]:
        return list(module.keep(etcd, {**given, **more}, dry))

    return module, etcd, run


def test_users_are_made_once_and_authentication_enabled_last(auth: Any) -> None:
    _, etcd, run = auth
    assert run(dry=True)[-1] == "authentication" and etcd.users == {}
    assert run()[-1] == "authentication"
    assert etcd.users == {"root": "one", "patroni": "two"} and etcd.enabled
    assert etcd.held == {"root": ["root"], "patroni": ["patroni"]}
    assert run() == []


def test_authentication_waits_until_patroni_was_told(auth: Any) -> None:
    _, etcd, run = auth
    run(enable=False, change_password=False)
    assert not etcd.enabled and set(etcd.users) == {"root", "patroni"}
    assert run() == ["password of patroni", "password of root", "authentication"]


def test_patroni_may_touch_nothing_else(auth: Any) -> None:
    _, etcd, run = auth
    run()
    etcd.roles["patroni"].append({"permType": "READWRITE", "key": "Lw==", "range_end": "MA=="})
    assert run() == ["patroni may not use anything else"]
    assert len(etcd.roles["patroni"]) == 1


def test_passwords_change_when_they_change_in_the_inventory(auth: Any, tmp_path: Path) -> None:
    module, etcd, run = auth
    run()
    assert run(password="three", change_password=False) == []
    assert run(password="three") == ["password of patroni"]
    with pytest.raises(module.EtcdError) as refused:
        run(root_password="four", password="three")
    assert "than database_etcd_root_password" in module.failure(refused.value, [])
    memory = tmp_path / "etcdctl.env"
    memory.write_text(f"ETCDCTL_PASSWORD={shlex.quote('one')}\n")
    assert run(root_password="it's 4", password="three", remembered=str(memory)) == [
        "password of root"
    ]
    memory.write_text(f"ETCDCTL_PASSWORD={shlex.quote(chr(105) + chr(116) + chr(39) + 's 4')}\n")
    assert run(root_password="last", password="three", remembered=str(memory)) == [
        "password of root"
    ]


def test_the_state_of_a_host_is_read_from_its_files(
    modules: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = modules("database_state")
    monkeypatch.setattr(module, "running", lambda unit: unit == "etcd")
    data = tmp_path / "var/lib/postgresql/15/music"
    (data / "global").mkdir(parents=True)
    (data / "global/pg_control").write_bytes(struct.pack("=Q", 7600000000000000001) + b"rest")
    (data / "PG_VERSION").write_text("15\n")
    old = tmp_path / "var/lib/postgresql/13/music"
    old.mkdir(parents=True)
    (old / "PG_VERSION").write_text("13\n")
    for scope in ("music", "films"):
        (tmp_path / "var/lib/etcd" / scope / "member").mkdir(parents=True)
    (tmp_path / "etc/patroni").mkdir(parents=True)
    (tmp_path / "etc/patroni/patroni.yml").write_text("# managed\nscope: films\nname: db1\n")
    (tmp_path / "etc/default").mkdir()
    (tmp_path / "etc/default/etcd").write_text("ETCD_LISTEN_PEER_URLS=http://198.51.100.31:2380\n")
    site = tmp_path / "opt/patroni/current/lib/python3.11/site-packages"
    (site / "patroni-4.1.5.dist-info").mkdir(parents=True)
    given = {
        "root": str(tmp_path),
        "name": "db1",
        "scope": "music",
        "version": 15,
        "patroni": "4.1.5",
    }
    state = module.local(given)
    assert state["data"]["system_identifier"] == "7600000000000000001"
    assert (state["data"]["version"], state["data"]["patroni"]) == ("15", False)
    assert [one["version"] for one in state["other_data"]] == ["13"]
    assert (state["etcd_data"], state["etcd_scopes"], state["etcd_plain"]) == (
        True,
        ["films"],
        True,
    )
    assert (state["patroni"], state["patroni_scope"]) == ("4.1.5", "films")
    assert (state["etcd_ran"], state["patroni_ran"]) == (True, False)
    empty = module.local({**given, "root": str(tmp_path / "nothing")})
    assert empty["data"]["entries"] == 0 and not empty["etcd_data"]
