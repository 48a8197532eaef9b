"""fab db and fab broker: flags, questions, output for people and for programs, exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from calling import Captured, call, records

sys.path.insert(0, str(Path(__file__).parents[1] / "operations"))

from data_fleet import APPS, NAMES, Clock, DataFleet

import backline.tasks.backups
import backline.tasks.database
import backline.tasks.operator
from backline import inventory
from backline.errors import BacklineError
from backline.inventory import Environment, Host
from backline.tasks.backups import restore_options
from backline.transport.port import HostError, Unreachable

GROUPS = {
    "database": NAMES,
    "streaming": ("stream1",),
    "worker": ("worker1", "stream1"),
    "backup": ("backup1",),
}
db = backline.tasks.database
GOOD_JOB = {"good": True, "ended": 100.0, "succeeded": 100.0}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataFleet:
    made, clock = DataFleet(), Clock()
    made.jobs = {"full": {**GOOD_JOB, "running": False}}
    hosts = {
        name: Host(name, name, 22, "deploy", None, None, None, ())
        for name in (*NAMES, *APPS, "backup1")
    }
    known = Environment("stage", tmp_path, hosts, GROUPS, True, ())
    monkeypatch.setattr(inventory, "load", lambda name: known)
    for module in (db, backline.tasks.backups):
        monkeypatch.setattr(module, "reach", lambda environment: made)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: clock)
    return made


def test_status_for_people(fleet: DataFleet, capsys: Captured) -> None:
    assert call(db.status) == 0
    out = capsys.readouterr().out
    assert "db1 leads, synchronous; etcd 3 of 3 votes" in out and "sync standby" in out
    assert max(map(len, out.splitlines())) <= 80
    fleet.states["db3"] = "start failed"
    assert call(db.status) == 1
    assert "! db3 is start failed" in capsys.readouterr().out


def test_status_for_programs(fleet: DataFleet, capsys: Captured) -> None:
    fleet.jobs["drill"] = {**GOOD_JOB, "good": False, "why": "rows differ", "running": False}
    assert call(db.status, json=True) == 1
    found = records(capsys)
    assert [r["member"] for r in found if r["event"] == "member"] == list(NAMES)
    cluster = next(r for r in found if r["event"] == "cluster")
    assert (cluster["leader"], cluster["quorum"], cluster["troubles"]) == ("db1", True, [])
    assert found[-1]["event"] == "error" and "drill failed" in found[-1]["message"]


def test_status_without_a_host_that_keeps_backups(fleet: DataFleet, capsys: Captured) -> None:
    fleet.faults["backup1", "backup", "status"] = HostError("backup1", "keeps no backups")
    assert call(db.status) == 1
    assert "backups: backup1: keeps no backups" in capsys.readouterr().out
    assert call(db.status, json=True) == 1
    found = next(row for row in records(capsys) if row["event"] == "unknown")
    assert (found["what"], found["why"]) == ("backups", "backup1: keeps no backups")


def test_status_where_no_backups_are_meant_to_be(
    fleet: DataFleet, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = {"database": NAMES}
    easy = Environment("lab", Path(), inventory.load("x").hosts, groups, False, ())
    monkeypatch.setattr(inventory, "load", lambda name: easy)
    assert call(db.status, json=True) == 0
    assert "unknown" in [row["event"] for row in records(capsys)]


def test_a_switchover_asks_for_the_number_of_hosts(fleet: DataFleet, capsys: Captured) -> None:
    assert call(db.switchover, json=True) == 6
    assert "--yes 4" in records(capsys)[-1]["hint"]
    assert call(db.switchover, json=True, yes=3) == 6
    assert fleet.calls == []
    assert call(db.switchover, json=True, yes=4) == 0
    events = [record["event"] for record in records(capsys)]
    assert events[-1] == "ended" and "shift" in events
    assert fleet.leader == "db2"


def test_a_dry_run_changes_nothing(fleet: DataFleet, capsys: Captured) -> None:
    assert call(db.switchover, dry_run=True) == 0
    assert "db1 hands over to db2; 4 hosts" in capsys.readouterr().err
    fleet.dead = {"db1"}
    assert call(db.failover, dry_run=True) == 0
    assert call(backline.tasks.backups.backup, dry_run=True) == 0
    assert fleet.calls == []


def test_an_app_host_that_is_down_can_be_left_out(fleet: DataFleet, capsys: Captured) -> None:
    assert call(db.switchover, skip="worker1", dry_run=True, json=True) == 0
    assert records(capsys)[0]["hosts"] == ["db1", "db2", "stream1"]


def test_a_failover_asks_even_where_nothing_else_does(
    fleet: DataFleet, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    easy = Environment("lab", Path(), inventory.load("x").hosts, GROUPS, False, ())
    monkeypatch.setattr(inventory, "load", lambda name: easy)
    assert call(db.failover, yes=1) == 6, "the leader lives"
    fleet.dead = {"db1"}
    assert call(db.failover, json=True) == 6
    assert fleet.calls == []
    assert call(db.failover, json=True, yes=1) == 0
    assert fleet.calls == [("db2", "database", "failover")]
    ended = records(capsys)[-1]
    assert set(ended) == {"schema_version", "event", "text", "leader", "seconds"}


def test_psql_asks_a_standby_and_for_a_write_the_leader(fleet: DataFleet, capsys: Captured) -> None:
    assert call(db.psql, command="select 1") == 0
    assert capsys.readouterr().out == "1\n"
    assert call(db.psql, command="delete from plays", write=True, json=True) == 6
    assert call(db.psql, command="delete from plays", write=True, json=True, yes=1) == 0
    assert [call[0] for call in fleet.calls] == ["db3", "db1"]
    assert call(db.psql) == 1
    fleet.faults["db3", "database", "query"] = HostError("db3", "ERROR: no such table")
    assert call(db.psql, command="select 1") == 1
    assert "no such table" in capsys.readouterr().err


def test_a_rehearsal_of_a_statement_names_the_member_and_asks_nobody(
    fleet: DataFleet, capsys: Captured
) -> None:
    flags = {"command": "delete from plays", "write": True, "dry_run": True}
    assert call(db.psql, **flags) == 0
    told = capsys.readouterr().err
    assert "db1 (db1), database postgres, as backline_writer" in told
    assert "delete from plays" in told
    assert call(db.psql, json=True, command="select 1", dry_run=True) == 0
    (plan,) = records(capsys)
    assert (plan["event"], plan["member"], plan["role"]) == ("plan", "db3", "backline_reader")
    assert (plan["host"], plan["database"], plan["command"]) == ("db3", "postgres", "select 1")
    assert fleet.calls == []


def test_a_drill_is_followed(fleet: DataFleet, capsys: Captured) -> None:
    ended = {"running": False, "log": ["== rows"], "cursor": "c", "result": GOOD_JOB}
    fleet.follows = [ended]
    assert call(backline.tasks.backups.drill, json=True, yes=1) == 0
    found = records(capsys)
    assert found[-1]["event"] == "backup" and found[-1]["good"] is True
    assert {"event": "log", "text": "== rows"}.items() <= found[-2].items()
    assert call(backline.tasks.backups.backup, kind="incr") == 1


def test_a_restore_is_one_of_two_ways() -> None:
    beside = restore_options("newest", "/var/lib/look", "", "", "")
    assert beside[1::2] == [
        "restore_mode=beside",
        "restore_to=newest",
        "restore_folder=/var/lib/look",
    ]
    place = restore_options("2026-11-26T02:59:00+00:00", "", "jukebox", "db2", "3")
    assert "restore_mode=in_place" in place and "restore_confirm=jukebox" in place
    for folder, replace in (("", ""), ("/x", "jukebox")):
        with pytest.raises(BacklineError) as caught:
            restore_options("newest", folder, replace, "", "")
        assert caught.value.exit_code == 6


@pytest.mark.parametrize("value", ["a b=1", "{{ x }}", "a'b", 'a"', "a\\", "a\nb"])
def test_a_restore_takes_no_value_that_is_more_than_one(value: str) -> None:
    with pytest.raises(BacklineError):
        restore_options(value, "/x", "", "", "")


def test_a_restore_says_what_it_would_run(fleet: DataFleet, capsys: Captured) -> None:
    flags = {"to": "newest", "folder": "/x", "dry_run": True, "json": True}
    assert call(backline.tasks.backups.restore, **flags) == 0
    found = records(capsys)
    assert found[0]["hosts"] == ["backup1"] and "restore_mode=beside" in found[1]["argv"]
    assert call(backline.tasks.backups.restore, to="newest", replace="jukebox", json=True) == 6
    assert "--yes 3" in records(capsys)[-1]["hint"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_switchover_goes_on_though_nobody_reads(
    as_json: bool, fleet: DataFleet, unheard: None
) -> None:
    assert call(db.switchover, yes=4, json=as_json) == 0
    assert fleet.leader == "db2" and not fleet.held


def test_what_a_host_calls_malformed_is_an_error_of_ours(fleet: DataFleet) -> None:
    for code, ends in ((2, 1), (130, 1), (5, 5), (6, 6)):
        error = HostError("db1", "no", exit_code=code)
        fleet.faults["db1", "database", "query"] = error
        fleet.faults["db1", "database", "switchover"] = error
        assert call(db.psql, command="select 1", member="db1") == ends
        assert call(db.switchover, yes=4) == ends


def test_a_write_whose_answer_is_lost_may_have_been_done(
    fleet: DataFleet, capsys: Captured
) -> None:
    for sent, state in (
        (True, "what db1 did of it is not known"),
        (False, "nothing of a statement"),
    ):
        error = Unreachable("db1", "connection lost", code="lost", sent=sent)
        fleet.faults["db1", "database", "query"] = error
        assert call(db.psql, command="delete from plays", write=True, yes=1) == 1
        assert state in capsys.readouterr().err


def test_an_answer_that_was_cut_ends_with_1_for_programs_too(
    fleet: DataFleet, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"output": "1\n", "cut": True, "role": "backline_reader"}
    monkeypatch.setattr(fleet, "_database", lambda host, action, fields: (
        answer if action == "query" else fleet.status(host)
    ))  # fmt: skip
    assert call(db.psql, command="select 1", json=True) == 1
    found = records(capsys)
    assert [row["event"] for row in found] == ["answer", "error"] and found[0]["cut"] is True
    assert call(db.psql, command="select 1") == 1
