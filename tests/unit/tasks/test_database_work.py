"""fab db.slow, locks, vacuum, kill: who is asked, what is shown, what is refused before anything is done."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from calling import Captured, call

sys.path.insert(0, str(Path(__file__).parents[1] / "operations"))

from data_fleet import NAMES, DataFleet

from backline import inventory
from backline.inventory import Environment, Host
from backline.tasks import database_work as work
from backline.transport.port import Answer, HostError, Unreachable


class Database(DataFleet):
    """Answers questions with rows. `ends`: what a signal makes of the session."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = [row(11)]
        self.extension: list[dict[str, Any]] = []
        self.tables = [table("plays", 900), table("songs", 3)]
        self.asked: list[tuple[str, str]] = []
        self.ends = True

    def _database(self, host: str, action: str, fields: Mapping[str, Any]) -> Answer:
        if action == "signal":
            self.rows = [] if self.ends else self.rows
            return {"signalled": True, "who": "app"}
        if action == "vacuum":
            self.tables = [table("plays", 0)]
            return {"ok": True, "seconds": 1.5}
        if action != "query":
            return super()._database(host, action, fields)
        sql = str(fields["sql"])
        self.asked.append((host, sql))
        found: list[dict[str, Any]] = self.rows
        if "pg_extension" in sql:
            found = self.extension
        elif "pg_stat_all_tables" in sql:
            found = self.tables
            if "s.relname::text" in sql:  # the one that is named
                found = [one for one in found if re.search(rf"'(public\.)?{one['name']}' in", sql)]
        elif "pg_database" in sql:
            found = [{"name": "jukebox"}, {"name": "postgres"}]
        output = io.StringIO()
        csv.writer(output).writerows([["row"], *([json.dumps(one)] for one in found)])
        return {"output": output.getvalue(), "cut": False, "role": "backline_reader"}


def row(pid: int, **more: Any) -> dict[str, Any]:
    base = {"pid": pid, "user": "app", "database": "jukebox", "application": "", "client": None}
    base |= {"state": "active", "kind": "client backend", "waits": None, "transaction": 90.0}
    base |= {"statement": 12.0, "started": 5, "super": False, "replicates": False}
    return {**base, "query": "select 's3cret'", **more}


def table(name: str, dead: int) -> dict[str, Any]:
    base = {"database": "jukebox", "schema": "public", "name": name, "live": 100, "dead": dead}
    return {**base, "age": 10, "bytes": 8192, "vacuumed": None, "analyzed": 100.0}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()
    hosts = {name: Host(name, name, 22, "deploy", None, None, None, ()) for name in NAMES}
    known = Environment("stage", tmp_path, hosts, {"database": NAMES}, True, ())
    monkeypatch.setattr(inventory, "load", lambda name: known)
    monkeypatch.setattr(work, "reach", lambda environment: made)
    return made


def test_slow_asks_all_members_and_shows_no_literal(fleet: Database, capsys: Captured) -> None:
    assert call(work.slow) == 0
    out, err = capsys.readouterr()
    assert "db1 11 app@jukebox: active for 12 s, in a transaction for 2 min" in out
    assert "select ?" in out and "s3cret" not in out
    assert "pg_stat_statements" in err
    assert {host for host, _ in fleet.asked} == set(NAMES)
    assert call(work.slow, member="db2", verbatim=True, json=True) == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["member"] == "db2" and found["query"] == "select 's3cret'"


def test_slow_shows_what_the_others_say_when_a_member_is_silent(
    fleet: Database, capsys: Captured
) -> None:
    """Its host answers, and PostgreSQL there does not: it is made anew from the leader."""
    away = HostError("db3", "PostgreSQL does not answer", code="psql_failed")
    fleet.faults["db3", "database", "query"] = away
    assert call(work.slow) == 1
    out, err = capsys.readouterr()
    assert "db1 11 app@jukebox" in out and "db2 11" in out and "db3 11" not in out
    assert err.count("db3: PostgreSQL does not answer") == 1
    assert call(work.slow, json=True) == 1
    *found, error = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["event"] for row in found] == ["session", "session", "silent"]
    assert (found[-1]["member"], found[-1]["why"]) == ("db3", "PostgreSQL does not answer")
    assert error["hosts"] == ["db3"]
    assert call(work.slow, member="db2") == 0


def test_slow_tells_of_hosts_that_are_down_and_of_a_leader_that_is_silent(
    fleet: Database, capsys: Captured
) -> None:
    fleet.dead = {"db2"}
    fleet.faults["db1", "database", "query"] = HostError("db1", "PostgreSQL does not answer")
    assert call(work.slow) == 1
    out, err = capsys.readouterr()
    assert "db3 11" in out and "costs are not known: db1 does not say" in err
    assert "db1: PostgreSQL does not answer" in err and "db2: no route to host" in err


def test_slow_says_that_costs_wait_for_a_restart(fleet: Database, capsys: Captured) -> None:
    fleet.extension = [{"schema": "public", "loaded": False}]
    assert call(work.slow) == 0
    assert "waits for a restart: fab restart --on database" in capsys.readouterr().err


def test_locks_are_a_tree(fleet: Database, capsys: Captured) -> None:
    more: dict[str, Any] = {"by": [], "mode": None, "lock": None, "relation": None}
    waits = {"by": [11], "mode": "ShareLock", "lock": "relation", "relation": None}
    fleet.rows = [row(12, **waits), row(11, **more)]
    assert call(work.locks) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "app@jukebox" in line]
    assert lines[0].startswith("db1 11") and lines[1].startswith("  └ db1 12")
    assert lines[1].endswith("wants ShareLock on relation")
    fleet.rows = []
    assert call(work.locks) == 0
    assert "nobody waits" in capsys.readouterr().err


def test_vacuum_lists_and_changes_nothing_without_a_table(
    fleet: Database, capsys: Captured
) -> None:
    assert call(work.vacuum, json=True) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["name"] for one in found] == ["plays", "songs"]
    assert call(work.vacuum, table="plays", dry_run=True) == 0
    assert call(work.vacuum, table="nothing", yes=1) == 1
    assert call(work.vacuum, by="name") == 1
    assert "vacuum" not in [action for _, _, action in fleet.calls]


def test_vacuum_is_done_on_the_leader_after_the_question(fleet: Database, capsys: Captured) -> None:
    assert call(work.vacuum, table="plays", json=True) == 6
    assert call(work.vacuum, table="public.plays", yes=1) == 0
    assert "900 dead rows before, 0 now" in capsys.readouterr().err
    sent = [fields for fields in fleet.sent if fields["action"] == "vacuum"]
    assert [(f["database"], f["schema"], f["table"]) for f in sent] == [
        ("jukebox", "public", "plays")
    ]
    assert [host for host, _, action in fleet.calls if action == "vacuum"] == ["db1"]


def test_kill_shows_asks_and_cancels(fleet: Database, capsys: Captured) -> None:
    assert call(work.kill, pid="11", dry_run=True) == 0
    assert "db1 11 app@jukebox" in capsys.readouterr().out
    assert call(work.kill, pid="11", json=True) == 6
    assert "signal" not in [action for _, _, action in fleet.calls]
    assert call(work.kill, pid="11", yes=1, message="holds the lock") == 0
    assert "has ended" in capsys.readouterr().err
    sent = next(fields for fields in fleet.sent if fields["action"] == "signal")
    assert (sent["how"], sent["pid"], sent["started"]) == ("cancel", 11, 5)
    assert sent["message"] == "holds the lock"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"super": True}, "superuser"),
        ({"replicates": True}, "standby would be cut off"),
        ({"kind": "walsender"}, "walsender"),
    ],
)
def test_kill_leaves_the_cluster_s_own_alone(
    fleet: Database, capsys: Captured, more: dict[str, Any], why: str
) -> None:
    fleet.rows = [row(11, **more)]
    assert call(work.kill, pid="11", terminate=True, yes=1) == 6
    assert why in capsys.readouterr().err
    assert "signal" not in [action for _, _, action in fleet.calls]


@pytest.mark.parametrize("pid", ["0", "-1", "1;2", "all", ""])
def test_kill_wants_one_process_id(fleet: Database, pid: str) -> None:
    assert call(work.kill, pid=pid, yes=1) == 1
    assert not fleet.asked


def test_kill_of_nobody(fleet: Database, capsys: Captured) -> None:
    """The session may be another member's: each has process IDs of its own."""
    fleet.rows = []
    assert call(work.kill, pid="11", yes=1) == 1
    err = capsys.readouterr().err
    assert "db1 has no session 11" in err and "--member NAME" in err


def test_a_cancel_that_leaves_a_transaction_open_says_so(fleet: Database, capsys: Captured) -> None:
    fleet.ends = False
    fleet.rows = [row(11, state="idle in transaction")]
    assert call(work.kill, pid="11", yes=1) == 0
    assert "--terminate ends both" in capsys.readouterr().err


def test_what_the_host_refuses_is_refused(fleet: Database, capsys: Captured) -> None:
    error = HostError("db1", "session 11 is left alone", code="protected", exit_code=6)
    fleet.faults["db1", "database", "signal"] = error
    assert call(work.kill, pid="11", yes=1) == 6


def test_without_a_leader_a_member_has_to_be_named(fleet: Database) -> None:
    fleet.leader, fleet.rows = None, []
    assert call(work.locks) == 1
    assert call(work.locks, member="db2") == 0


@pytest.mark.parametrize("action", ["signal", "vacuum"])
def test_what_was_told_and_not_answered_is_not_called_undone(
    action: str, fleet: Database, capsys: Captured
) -> None:
    lost = Unreachable("db1", "no answer within 30 s", code="deadline")
    done = HostError("db1", "hostctl gave no answer (exit 137)", code="no_answer")
    away = Unreachable("db1", "no route to host", sent=False)
    for error, state in ((lost, "not known"), (done, "not known"), (away, "nothing was changed")):
        fleet.faults["db1", "database", action] = error
        words = {"pid": "11"} if action == "signal" else {"table": "plays"}
        task = work.kill if action == "signal" else work.vacuum
        assert call(task, yes=1, **words) == 1
        assert state in capsys.readouterr().err


def test_a_look_that_fails_afterwards_undoes_nothing(fleet: Database, capsys: Captured) -> None:
    """After the signal, or the vacuum, the same host is asked once more."""
    gone = Unreachable("db1", "no route to host", sent=False)

    class Dies(Database):
        def _database(self, host: str, action: str, fields: Mapping[str, Any]) -> Answer:
            answer = super()._database(host, action, fields)
            if action in ("signal", "vacuum"):
                self.faults["db1", "database", "query"] = gone
            return answer

    fleet.__class__ = Dies
    assert call(work.kill, pid="11", yes=1) == 1
    assert "session 11 was told" in capsys.readouterr().err
    fleet.faults.clear()
    assert call(work.vacuum, table="plays", yes=1) == 1
    assert "plays was vacuumed" in capsys.readouterr().err
