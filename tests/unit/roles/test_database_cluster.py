"""What is refused before a database host is touched, and which members come and go."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
PATH = "database/filter_plugins/database_cluster.py"
THREE = [{"name": f"db{n}", "address": f"198.51.100.3{n}"} for n in (1, 2, 3)]
ONE = THREE[:1]
SYSTEM = "7600000000000000001"


def member(number: int, serves: bool = True, name: str = "") -> dict[str, Any]:
    """One of etcd's members."""
    return {
        "id": str(number),
        "name": name or f"db{number}",
        "peers": [f"https://198.51.100.3{number}:2380"],
        "clients": [f"https://198.51.100.3{number}:2379"],
        "learner": False,
        "serves": serves,
    }


def host(name: str, members: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    """The state of a host on which nothing is yet; `more` replaces parts of it."""
    data = {
        "path": f"/data/{name}",
        "entries": 0,
        "some": [],
        "version": "",
        "system_identifier": "",
    }
    return {
        "name": name,
        "scope": "music",
        "version": 15,
        "patroni_wanted": "4.1.5",
        "patroni": "",
        "patroni_scope": "",
        "patroni_ran": False,
        "etcd_ran": False,
        "etcd_data": False,
        "etcd_scopes": [],
        "etcd_plain": False,
        "other_data": [],
        "peers": {m["name"]: f"https://{m['address']}:2380" for m in members},
        **more,
        "data": {**data, "patroni": False, **more.get("data", {})},
        "seen": {"certificate": True, "etcd": {}, "patroni": {}, **more.get("seen", {})},
    }


def running(
    name: str,
    members: list[dict[str, str]],
    etcd: list[dict[str, Any]],
    cluster: str = "c1",
    system: str = SYSTEM,
    **more: Any,
) -> dict[str, Any]:
    """The state of a member of a cluster that runs, which sees itself only."""
    api = {
        "scope": "music",
        "version": "4.1.5",
        "server_version": 150014,
        "system_identifier": system,
    }
    found = {
        "patroni": "4.1.5",
        "patroni_scope": "music",
        "patroni_ran": True,
        "etcd_ran": True,
        "etcd_data": True,
        "data": {"entries": 20, "version": "15", "system_identifier": system, "patroni": True},
        "seen": {
            "etcd": {name: {"cluster": cluster, "members": etcd}},
            "patroni": {name: api},
        },
    }
    return host(name, members, **{**found, **more})


@pytest.fixture(scope="session")
def cluster(load: Load) -> ModuleType:
    return load(PATH)


def test_a_first_run_is_a_new_cluster(cluster: ModuleType) -> None:
    states = [host(one["name"], THREE) for one in THREE]
    assert cluster.database_refusals(states, THREE) == []
    assert cluster.database_plan(states, THREE) == {
        "new": True,
        "join": [],
        "leave": False,
        "keeper": "db1",
    }


def test_a_second_run_changes_no_member(cluster: ModuleType) -> None:
    etcd = [member(n) for n in (1, 2, 3)]
    states = [running(one["name"], THREE, etcd) for one in THREE]
    assert cluster.database_refusals(states, THREE) == []
    plan = cluster.database_plan(states, THREE)
    assert (plan["new"], plan["join"], plan["leave"]) == (False, [], False)


def test_one_grows_to_three(cluster: ModuleType) -> None:
    states = [running("db1", THREE, [member(1)]), host("db2", THREE), host("db3", THREE)]
    assert cluster.database_refusals(states, THREE) == []
    plan = cluster.database_plan(states, THREE)
    assert (plan["join"], plan["keeper"], plan["leave"]) == (["db2", "db3"], "db1", False)


def test_a_dead_host_is_replaced(cluster: ModuleType) -> None:
    wanted = [THREE[0], {"name": "db4", "address": "198.51.100.34"}, THREE[2]]
    etcd = [member(1), member(2, serves=False), member(3)]
    states = [
        running("db1", wanted, etcd),
        host("db4", wanted),
        running("db3", wanted, etcd),
    ]
    assert cluster.database_refusals(states, wanted) == []
    plan = cluster.database_plan(states, wanted)
    assert (plan["join"], plan["leave"]) == (["db4"], True)


def test_a_host_that_was_built_anew_under_its_old_name_joins_again(cluster: ModuleType) -> None:
    etcd = [member(1), member(2, serves=False), member(3)]
    states = [running("db1", THREE, etcd), host("db2", THREE), running("db3", THREE, etcd)]
    assert cluster.database_refusals(states, THREE) == []
    assert cluster.database_plan(states, THREE)["join"] == ["db2"]


def test_a_dead_host_that_stays_in_the_inventory_stops_nobody(cluster: ModuleType) -> None:
    etcd = [member(1), member(2, serves=False), member(3)]
    states = [running("db1", THREE, etcd), running("db3", THREE, etcd)]
    assert cluster.database_refusals(states, THREE) == []


def only(cluster: ModuleType, states: list[dict[str, Any]], members: list[dict[str, str]]) -> str:
    """The one refusal that there is."""
    refusals = cluster.database_refusals(states, members)
    assert len(refusals) == 1, refusals
    return str(refusals[0])


def test_a_host_of_another_cluster(cluster: ModuleType) -> None:
    states = [host("db1", ONE, patroni_scope="films")]
    assert "belongs to the cluster 'films'" in only(cluster, states, ONE)
    states = [host("db1", ONE, etcd_scopes=["films"])]
    assert "/var/lib/etcd/films" in only(cluster, states, ONE)


def test_an_address_that_is_another_cluster_s(cluster: ModuleType) -> None:
    api = {"scope": "films", "version": "4.1.5", "server_version": 150014, "system_identifier": "9"}
    states = [host("db1", ONE, seen={"patroni": {"db1": api}})]
    assert "runs the cluster 'films'" in only(cluster, states, ONE)


def test_data_of_another_cluster(cluster: ModuleType) -> None:
    etcd = [member(n) for n in (1, 2, 3)]
    stranger = host(
        "db2",
        THREE,
        etcd_data=True,
        data={"entries": 20, "version": "15", "system_identifier": "9"},
    )
    states = [running("db1", THREE, etcd), stranger, running("db3", THREE, etcd)]
    refusal = only(cluster, states, THREE)
    assert "/data/db2 on db2 is another cluster's data (system identifier 9" in refusal
    assert SYSTEM in refusal and "move the folder away" in refusal


def test_members_that_were_made_apart(cluster: ModuleType) -> None:
    states = [
        running("db1", THREE, [member(1)], "c1", "1"),
        running("db2", THREE, [member(2)], "c2", "2"),
        running("db3", THREE, [member(3)], "c3", "3"),
    ]
    refusals = cluster.database_refusals(states, THREE)
    assert any(
        "different clusters (system identifiers: db1 1, db2 2, db3 3)" in r for r in refusals
    )
    assert any("etcd's members are of different clusters" in r for r in refusals)


def test_a_data_folder_that_is_not_postgresql_s(cluster: ModuleType) -> None:
    states = [host("db1", ONE, data={"entries": 2, "some": ["holiday.jpg", "notes"]})]
    refusal = only(cluster, states, ONE)
    assert "/data/db1 on db1 is not empty (holiday.jpg, notes)" in refusal


def test_data_that_patroni_never_ran(cluster: ModuleType) -> None:
    found = {"entries": 20, "version": "15", "system_identifier": "9"}
    assert "Patroni has never run" in only(cluster, [host("db1", ONE, data=found)], ONE)
    ours = [host("db1", ONE, data={**found, "patroni": True})]
    assert cluster.database_refusals(ours, ONE) == []


def test_other_versions_of_postgresql(cluster: ModuleType) -> None:
    etcd = [member(n) for n in (1, 2, 3)]
    states = [running(one["name"], THREE, etcd, version=15 + n % 2) for n, one in enumerate(THREE)]
    assert "(db1 15, db2 16, db3 15)" in only(cluster, states, THREE)
    old = [host("db1", ONE, other_data=[{"version": "13", "path": "/var/lib/postgresql/13/music"}])]
    assert "PostgreSQL 13 in /var/lib/postgresql/13/music" in only(cluster, old, ONE)
    states = [running(one["name"], THREE, etcd, version=16) for one in THREE]
    assert "db1 runs PostgreSQL 15, and members are to run 16" in only(cluster, states, THREE)


def test_a_member_that_would_be_left_with_another_patroni(cluster: ModuleType) -> None:
    etcd = [member(n) for n in (1, 2, 3)]
    state = running("db1", THREE, etcd, patroni_wanted="4.2.0")
    state["seen"]["patroni"]["db2"] = {**state["seen"]["patroni"]["db1"]}
    refusal = only(cluster, [state], THREE)
    assert "db2 runs Patroni 4.1.5 and is not in this play, which brings 4.2.0" in refusal
    assert "--limit" in refusal


def test_a_member_that_was_removed_does_not_come_back_with_its_data(cluster: ModuleType) -> None:
    etcd = [member(1), member(3)]
    states = [
        running("db1", THREE, etcd),
        host("db2", THREE, etcd_data=True, patroni_scope="music"),
        running("db3", THREE, etcd),
    ]
    refusal = only(cluster, states, THREE)
    assert "db2 has etcd's data" in refusal and "is not a member" in refusal


def test_a_member_that_serves_is_not_removed_by_an_inventory_without_it(
    cluster: ModuleType,
) -> None:
    states = [running("db1", ONE, [member(n) for n in (1, 2, 3)])]
    refusals = cluster.database_refusals(states, ONE)
    assert len(refusals) == 2
    assert "db2 is a member and serves, and database_members does not name it" in refusals[0]


def test_nobody_joins_without_a_majority(cluster: ModuleType) -> None:
    etcd = [member(1, serves=False), member(2, serves=False), member(3, serves=False)]
    states = [running("db1", THREE, etcd), host("db2", THREE)]
    assert "etcd has no majority (nobody of db1, db2, db3 serves)" in only(cluster, states, THREE)


def test_nobody_joins_where_no_etcd_answers(cluster: ModuleType) -> None:
    states = [host("db1", THREE, etcd_data=True), host("db2", THREE), host("db3", THREE)]
    assert "db2, db3 cannot join" in only(cluster, states, THREE)


def test_a_new_cluster_and_a_new_member_need_their_hosts(cluster: ModuleType) -> None:
    states = [host("db1", THREE), host("db2", THREE)]
    assert "db3 is not in this play" in only(cluster, states, THREE)
    states = [running("db1", THREE, [member(1)]), host("db2", THREE)]
    assert "db3 is to become a member and is not in this play" in only(cluster, states, THREE)


def test_members_without_tls_are_not_moved_one_by_one(cluster: ModuleType) -> None:
    states = [host(one["name"], THREE, etcd_plain=True, etcd_data=True) for one in THREE]
    refusals = cluster.database_refusals(states, THREE)
    assert all("without TLS" in refusal for refusal in refusals) and len(refusals) == 3
    assert cluster.database_refusals([host("db1", ONE, etcd_plain=True, etcd_data=True)], ONE) == []
