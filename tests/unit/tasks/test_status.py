"""`fab status`: one question per host, one row per host, and whatever is wrong is seen."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from calling import call
from fake_fleet import FakeFleet, Fault
from looked_at import DAY, MEMBER, NOW, OLD, WELL, environment, made

import backline.tasks.operator
import backline.tasks.status
from backline import inventory
from backline.console import fleet_table
from backline.operations.status import Row
from backline.operations.vitals import vitals_of
from backline.transport.port import HostError

status = backline.tasks.status.status


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    found = made()
    monkeypatch.setattr(inventory, "load", lambda name: environment(tmp_path))
    monkeypatch.setattr(backline.tasks.status, "reach", lambda environment: found)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: found.clock)
    return found


def table(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def row(lines: list[str], host: str) -> str:
    return next(line for line in lines if line.startswith(host))


def test_each_host_is_asked_one_question(fleet: FakeFleet) -> None:
    assert call(status) == 0
    assert [(host, verb) for host, verb, _ in fleet.calls] == [(h, "facts") for h in fleet.hosts]


def test_eighty_columns_have_what_is_looked_at_first(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.hosts["db1"].vitals |= {"database": MEMBER, "reboot": {"due": True}}
    fleet.hosts["worker1"].drained = True
    fleet.hosts["worker1"].facts = {"drained": True}
    assert call(status) == 0
    lines = table(capsys)
    assert max(map(len, lines)) <= 80
    assert {"HOST", "RELEASE", "RUNS", "MEM", "DISK", "NOTES"} <= set(lines[0].split())
    assert OLD in row(lines, "stream1") and "1/1" in row(lines, "stream1")
    assert "40%" in row(lines, "stream1") and "20%" in row(lines, "stream1")
    assert "drained" in row(lines, "worker1") and "2/2" in row(lines, "worker1")
    text = " ".join(lines)
    assert "sync standby" in text and "reboot due" in text


def test_a_wider_terminal_shows_more_and_says_nothing_twice(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.hosts["db1"].vitals |= {"database": MEMBER, "upgrades": {"all": 5, "security": 2}}
    fleet.hosts["worker1"].vitals["broker"] = {"ready": 12, "unacknowledged": 3, "trouble": None}
    monkeypatch.setenv("COLUMNS", "220")
    call(status)
    lines = table(capsys)
    wide = {"ROLE", "QUEUED", "LOAD", "UP", "CERT", "WAITING", "VERSION", "HOSTCTL", "PROCESSES"}
    assert wide <= set(lines[0].split())
    assert row(lines, "db1").count("sync standby, 4096 B behind") == 1
    assert row(lines, "db1").count("2 security upgrades") == 1
    assert " 15 " in row(lines, "worker1") and "60d" in row(lines, "stream1")
    assert "3d" in row(lines, "stream1") and "mail, plays" in row(lines, "worker1")


def test_a_column_that_nobody_fills_takes_no_room(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    call(status)
    assert not {"ROLE", "QUEUED", "WAITING"} & set(table(capsys)[0].split())


def test_long_names_cost_columns_and_never_the_width(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from backline.console import show_status

    name = "stream-number-one.example.com"
    ill = vitals_of({"vitals": {**WELL, "failed_units": ["nginx.service"]}})
    show_status([Row(name, app="jukebox", current=OLD, vitals=ill)])
    lines = table(capsys)
    assert max(map(len, lines)) <= 80
    assert name in lines[1] and OLD in lines[1] and "LOAD" not in lines[0]
    assert "nginx.service failed" in lines[1]


def test_a_dead_host_is_a_row_and_exit_1(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead.add("stream2")
    assert call(status) == 1
    out, err = capsys.readouterr()
    assert "unreachable" in row(out.splitlines(), "stream2")
    assert "1 of 4 hosts" in err and "Traceback" not in out + err


@pytest.mark.parametrize(
    ("sign", "says"),
    [
        ({"failed_units": ["nginx.service"]}, "nginx.service failed"),
        ({"disks": [{"place": "/srv", "size": 100, "free": 5}]}, "/srv 95% full"),
        (
            {"disks": [{"place": "/var", "size": 9, "free": 9, "inodes": 100, "inodes_free": 2}]},
            "/var runs out of inodes",
        ),
        ({"memory": {"total": 100, "available": 3}}, "memory 97% full"),
        ({"load": {"averages": [9.5], "processors": 2}}, "load 9.5 on 2 processors"),
        ({"certificates": [{"name": "edge", "not_after": NOW + 5 * DAY}]}, "edge ends in 5 days"),
        ({"certificates": [{"name": "edge", "not_after": NOW - 5 * DAY}]}, "edge ENDED 5 days ago"),
        ({"certificates": [{"name": "host", "trouble": "x"}]}, "certificate host cannot be read"),
        ({"database": {"trouble": "Patroni does not answer: x"}}, "Patroni does not answer: x"),
        ({"database": {**MEMBER, "lag": 99_000_000}}, "99 MB behind"),
        ({"database": {**MEMBER, "paused": True}}, "Patroni is paused"),
        ({"database": {**MEMBER, "state": "start failed"}}, "the database is start failed"),
        ({"database": {**MEMBER, "state": "in archive recovery"}}, "is in archive recovery"),
        ({"database": {**MEMBER, "state": "stopped", "lag": None}}, "the database is stopped"),
        ({"database": {**MEMBER, "leader": None}}, "nobody leads"),
        ({"database": {**MEMBER, "lag": None}}, "lag not known"),
        ({"broker": {"trouble": "RabbitMQ does not answer"}}, "RabbitMQ does not answer"),
        ({"backups": {"drill": {"good": False, "ended": NOW}}}, "the last restore drill failed"),
        ({"backups": {"full": {"good": False, "ended": NOW}}}, "the last full backup failed"),
    ],
)
def test_what_is_wrong_with_a_host_is_a_trouble(
    fleet: FakeFleet, sign: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.hosts["db1"].vitals |= sign
    call(status, json=True)
    rows = {row["host"]: row for row in map(json.loads, table(capsys))}
    assert any(says in trouble for trouble in rows["db1"]["troubles"]), rows["db1"]["troubles"]
    assert rows["stream1"]["troubles"] == []


@pytest.mark.parametrize("role", ["leader", "standby_leader"])
def test_who_leads_is_behind_nobody(role: str) -> None:
    leads = {**MEMBER, "role": role, "state": "running", "lag": None, "leader": "db1"}
    for member in (MEMBER, leads, {**leads, "lag": 99_000_000}):
        vitals = vitals_of({"vitals": {**WELL, "database": member}})
        assert vitals is not None and vitals.troubles == []


def test_a_dead_host_in_quarantine_is_known_to_be_there(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was left behind, and then it died: who brings it up must know of both."""
    mark = {"why": "unhealthy", "release": OLD, "run": "x", "at": 1}
    fleet.hosts["stream1"].quarantine = {"stream2": mark}
    fleet.dead.add("stream2")
    assert call(status, json=True) == 1
    rows = [json.loads(line) for line in table(capsys)]
    dead = next(row for row in rows if row.get("host") == "stream2")
    assert dead["quarantine"] == mark and dead["error"] and not dead["reachable"]
    assert call(status) == 1
    text = " ".join(" ".join(table(capsys)).split())
    assert "no answer; in" in text and "quarantine: unhealthy" in text


@pytest.mark.parametrize(
    ("jobs", "says"),
    [
        ({"drill": {"good": True, "ended": NOW}}, "restore drill good"),
        ({"full": {"good": True, "ended": NOW}}, "no restore drill yet"),
    ],
)
def test_the_host_with_the_backups_tells_of_its_drill(
    fleet: FakeFleet, jobs: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.hosts["db1"].vitals |= {"backups": jobs}
    assert call(status) == 0
    rows = table(capsys)
    assert says in row(rows, "db1") and "drill" not in row(rows, "stream1")


@pytest.mark.parametrize("sign", WELL)
def test_a_sign_that_a_host_does_not_know_is_no_trouble(
    fleet: FakeFleet, sign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.hosts["db1"].vitals |= {sign: None}
    assert call(status) == 0
    fleet.hosts["db1"].vitals.pop(sign)
    assert call(status, json=True) == 0
    last = json.loads(table(capsys)[-1])
    assert last["host"] == "db1" and last["troubles"] == []


def test_a_live_process_that_is_ill_does_not_count_as_running(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = fleet._status

    def ill(host: Any, fields: Any) -> Any:
        found = truth(host, fields)
        if host.name == "stream1":
            found["processes"]["web"]["health"] = {"ok": False, "detail": "503 of 200"}
        return found

    monkeypatch.setattr(fleet, "_status", ill)
    call(status)
    lines = table(capsys)
    assert "0/1" in row(lines, "stream1") and "web is ill" in " ".join(lines)
    assert "1/1" in row(lines, "stream2")


def test_an_app_that_cannot_be_told_of_is_named(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_status", lambda host, fields: {"trouble": "state is not readable"})
    assert call(status, json=True) == 0
    first = json.loads(table(capsys)[0])
    assert first["processes"] == {} and first["current"] is None
    assert first["app"] == "jukebox" and "state is not readable" in first["troubles"][0]


class Older(FakeFleet):
    """Its hostctl knows no wide answer, and refuses a field that it does not know."""

    def __enter__(self) -> Older:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def _facts(self, host: Any, fields: Any) -> dict[str, Any]:
        if "wide" in fields:
            raise HostError(host.name, "facts knows no field 'wide'", code="unknown_field")
        return {**super()._facts(host, fields), "hostctl": "0.2.4"}


def test_an_older_hostctl_says_what_it_knows(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.__class__ = Older
    assert call(status) == 0
    lines = table(capsys)
    assert OLD in row(lines, "stream1") and "1/1" in row(lines, "stream1")
    assert "hostctl 0.2.4 is too old" in " ".join(lines)
    call(status, json=True)
    assert json.loads(table(capsys)[0])["vitals"] is None


def test_another_error_of_a_host_is_its_own(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.faults.append(Fault("facts", "state_damaged", host="stream1"))
    assert call(status) == 1
    assert "state_damaged" in row(table(capsys), "stream1")


def test_watching_looks_again_as_often_as_it_is_told(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(status, watch=True, times=3, interval=2.0) == 0
    lines = table(capsys)
    assert [line.split()[0] for line in lines].count("stream1") == 3
    assert sum("4 hosts" in line and "every 2 s" in line for line in lines) == 3
    assert fleet.clock.slept == [2.0, 2.0]
    assert max(map(len, lines)) <= 80


def test_watching_in_json_numbers_the_looks(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.before_call = lambda host, verb: fleet.dead.add("db1") if len(fleet.calls) > 4 else None
    assert call(status, watch=True, times=2, json=True) == 1
    rows = [json.loads(line) for line in table(capsys)]
    assert [row["round"] for row in rows if "round" in row] == [1] * 4 + [2] * 4
    dead = [(row["round"], row["host"]) for row in rows if "round" in row and not row["reachable"]]
    assert dead == [(2, "db1")]


def test_ctrl_c_ends_the_watch_with_130(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fleet.clock, "sleep", interrupt)
    assert call(status, watch=True) == 130
    assert "stream1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        *({"interval": value} for value in (0.0, -1.0, float("nan"), float("inf"), 1e300)),
        {"times": -1},
    ],
)
def test_a_watch_that_cannot_be_is_refused(fleet: FakeFleet, flags: dict[str, Any]) -> None:
    assert call(status, watch=True, **flags) == 1
    assert not fleet.calls


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen of 12 lines."""
    for name, value in {"TTY_COMPATIBLE": "1", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "12")


def told_of_each(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch, told: Callable[[], None]
) -> None:
    """Has `told` called after each host has answered."""
    truth = fleet.each

    def each(hosts: Any, work: Any, *, deadline: float, done: Any = None) -> Any:
        def both(host: str, outcome: Any) -> None:
            done(host, outcome)
            told()

        return truth(hosts, work, deadline=deadline, done=both)

    monkeypatch.setattr(fleet, "each", each)


def test_on_a_terminal_the_table_is_drawn_in_place_as_hosts_answer(
    fleet: FakeFleet,
    terminal: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(fleet_table, "REDRAW_SECONDS", 0.0)
    told_of_each(fleet, monkeypatch, lambda: seen.append(capsys.readouterr().out))
    assert call(status, watch=True, times=1) == 0
    assert "stream1" in seen[0] and "worker1" not in seen[0]
    assert "worker1" in seen[2]
    last = capsys.readouterr().out
    assert "\x1b[?1049l" in last  # the other screen is left, and the table stays
    assert "stream1" in last.partition("\x1b[?1049l")[2]


def test_many_hosts_do_not_draw_the_table_as_many_times(
    fleet: FakeFleet,
    terminal: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(fleet_table, "REDRAW_SECONDS", 60.0)
    told_of_each(fleet, monkeypatch, lambda: seen.append(capsys.readouterr().out))
    assert call(status, watch=True, times=1) == 0
    assert [bool(text) for text in seen] == [True, False, False, False]
    assert "db1" in capsys.readouterr().out


def test_a_low_screen_shows_who_is_ill_and_counts_the_rest(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row(f"h{number}") for number in range(40)]
    rows[37] = Row("h37", error="no answer", reachable=False)
    rows[38] = Row("h38", drained=True)
    out = fleet_table.console(sys.stdout)
    out.print(fleet_table.FleetTable(rows, "title", cut=True))
    lines = [
        line.split()[0]
        for line in re.sub(r"\x1b\[[^m]*m", "", capsys.readouterr().out).splitlines()
    ]
    assert lines[:5] == ["title", "HOST", "h37", "h38", "h0"] and len(lines) == 12
    out.print(fleet_table.FleetTable(rows, "title"))
    assert len(capsys.readouterr().out.splitlines()) == 42


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_real_watch_of_dead_hosts_goes_on_until_it_is_told_to_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    stage = tmp_path / "inventory" / "stage"
    stage.mkdir(parents=True)
    (stage / "known_hosts").write_text("")
    hosts = "{h1: {ansible_port: 1}, h2: {ansible_port: 1}}"
    (stage / "hosts.yml").write_text(
        f"all: {{vars: {{ansible_host: 127.0.0.1}}, hosts: {hosts}}}\n"
    )
    argv = [sys.executable, "-m", "fabric", "status", "--env", "stage", "--watch", "--json"]
    process = subprocess.Popen(
        [*argv, "--interval", "0.1"],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "BACKLINE_ROOT": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    rows = [json.loads(process.stdout.readline()) for _ in range(4)]
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert [(row["host"], row["round"]) for row in rows] == [
        ("h1", 1),
        ("h2", 1),
        ("h1", 2),
        ("h2", 2),
    ]
    assert all(not row["reachable"] and "refused" in row["error"] for row in rows)
    assert process.returncode == 130
    assert "Traceback" not in err and "interrupted" in err


PATCH = "patch-20261126T030500Z-ann-1234"


def test_a_host_that_a_killed_run_left_names_it_and_the_next_step() -> None:
    row = Row("stream1", app="jukebox", drained=True, drained_by=PATCH, upkeep=PATCH)
    told = row.as_json()
    assert (told["drained_by"], told["upkeep"]) == (PATCH, PATCH)
    assert told["troubles"] == [
        f"{PATCH} is at work, or ended half way: then the same command again"
    ]
    text = "; ".join(fleet_table.notes(row, set(), again=False))
    assert text.startswith(f"drained; {PATCH} is at work")
    text = "; ".join(fleet_table.notes(replace(row, upkeep=None), set(), again=False))
    assert text == f"drained by {PATCH}"
    assert Row("db1", upkeep=PATCH).troubles, "no host that is never drained either"
    assert replace(row, upkeep=None, drained_by="20261126T030500Z-ann-1234").troubles == []


def test_the_summary_names_what_is_shown() -> None:
    summary = str(status.__doc__).splitlines()[0]
    for word in ("health", "load", "memory", "disk", "certificates", "role", "queue", "drained"):
        assert word in summary
