"""What operators type: flags, questions, output for people and for programs, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest
from calling import call
from fake_fleet import FakeFleet, Fault, small_fleet
from invoke.collection import Collection
from invoke.context import Context

import backline.console
import backline.tasks.deploy
import backline.tasks.operator
import backline.tasks.release
import backline.tasks.status
import backline.tasks.taking_over
from backline import inventory
from backline.errors import BacklineError
from backline.inventory import Environment, Host
from backline.release import build, signing
from backline.transport.clock import SystemClock

ROOT = Path(__file__).parents[3]
PROCESSES = {"stream1": ("web",), "stream2": ("web",), "worker1": ("mail", "plays")}
GROUPS = {"streaming": ("stream1", "stream2"), "worker": ("worker1",), "database": ("db1",)}
OLD = "20260101T000000Z-0000001"
MANIFEST = """\
name = "jukebox"
version = "2.0"
python = "3.11"
[processes.web]
kind = "http"
hosts = "streaming"
command = ["x"]
health = { path = "/" }
[processes.worker]
kind = "worker"
hosts = "worker"
command = ["x"]
"""


class Reached(FakeFleet):
    """The fleet in memory, as the tasks reach it."""

    def __enter__(self) -> Reached:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    """Three hosts that run OLD and a db1 without an app; a root with no releases; no waiting."""
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    monkeypatch.delenv("BACKLINE_ENV", raising=False)
    made = small_fleet(OLD, {**PROCESSES, "db1": ()})
    made.hosts["db1"].facts = {"apps": {}}
    made.__class__ = Reached
    hosts = {
        name: Host(name, name, 22, "deploy", None, None, None, tuple(g for g in GROUPS if name in GROUPS[g]))
        for name in made.hosts
    }  # fmt: skip
    known = Environment("stage", tmp_path, hosts, GROUPS, False, ())
    monkeypatch.setattr(inventory, "load", lambda name: known)
    for module in (backline.tasks.deploy, backline.tasks.status, backline.tasks.taking_over):
        monkeypatch.setattr(module, "reach", lambda environment: made)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: made.clock)
    return made


@pytest.fixture
def release(fleet: FakeFleet, tmp_path: Path) -> str:
    """A real release in dist/, signed by the root's own key."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "backline.toml").write_text(MANIFEST)
    (app / "requirements.lock").write_text("")
    key, _ = signing.signing_key()
    built = build.build(app, tmp_path / "dist", key=key, clock=SystemClock(), say=print)
    return built.release.id


deploy, rollback = backline.tasks.deploy.start, backline.tasks.deploy.rollback
status = backline.tasks.status.status


def test_deploy_speaks_json_only_on_stdout(
    fleet: FakeFleet, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(deploy, release=release, json=True, message="why") == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(line["schema_version"] == 1 and line["run"] == lines[0]["run"] for line in lines)
    assert [lines[0]["event"], lines[-1]["event"]] == ["plan", "ended"]
    assert lines[0]["hosts"] == ["stream1", "stream2", "worker1"]
    assert err == ""
    assert {host.live.get("web") for host in fleet.hosts.values()} == {release, None}


def test_deploy_tells_people_on_stderr_only(
    fleet: FakeFleet, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(deploy, release=release) == 0
    out, err = capsys.readouterr()
    assert out == ""
    for words in ("ship      ", f"replaces {OLD}", "stream2", "switched", "3 hosts"):
        assert words in err
    assert max(map(len, err.splitlines())) <= 80


def test_a_dry_run_shows_and_changes_nothing(
    fleet: FakeFleet, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(deploy, release=release, dry_run=True) == 0
    assert "stream1" in capsys.readouterr().err
    assert {verb for _, verb, _ in fleet.calls} == {"facts"}


def test_errors_are_json_too(
    fleet: FakeFleet, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.faults.append(Fault("check", "unhealthy", host="stream2", release=release))
    assert call(deploy, release=release, json=True) == 4
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "error" and last["exit_code"] == 4
    assert last["hosts"] == ["stream2"] and "rolled back" in last["state"]


@pytest.mark.parametrize("flags", [{"json": True}, {}])
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_nobody_reads_does_not_stop_half_way(
    flags: dict[str, Any],
    fails: bool,
    fleet: FakeFleet,
    release: str,
    unread: TextIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if fails:
        fleet.faults.append(Fault("check", "unhealthy", host="stream2", release=release))
    # The reader goes away once the plan was shown; before that, nothing is lost by ending.
    monkeypatch.setattr(backline.console, "show_plan", lambda plan: None)
    monkeypatch.setattr(sys, "stdout", unread)
    monkeypatch.setattr(sys, "stderr", unread)
    assert call(deploy, release=release, **flags) == (4 if fails else 0)
    assert {host.live.get("web") for host in fleet.hosts.values()} == {
        OLD if fails else release,
        None,
    }


def test_a_selection_narrows_the_deploy(fleet: FakeFleet, release: str) -> None:
    assert call(deploy, release=release, on="stream1:db1") == 0
    assert fleet.hosts["stream1"].live == {"web": release}
    assert fleet.hosts["stream2"].live == {"web": OLD}


def test_a_tampered_archive_is_refused_here_and_can_be_left_to_the_hosts(
    fleet: FakeFleet, release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "dist" / f"{release}.tar.zst"
    archive.write_bytes(archive.read_bytes() + b"?")
    assert call(deploy, release=release) == 6
    assert fleet.calls == []
    assert release in capsys.readouterr().err
    fleet.faults.append(Fault("stage", "bad_digest"))
    assert call(deploy, release=release, skip_local_check=True) == 6
    assert {host.live.get("web") for host in fleet.hosts.values()} == {OLD, None}


def test_without_a_release_those_that_exist_are_listed(
    fleet: FakeFleet, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(deploy) == 1
    assert release in capsys.readouterr().err


def test_a_host_that_is_down_is_named_before_anything_changes(
    fleet: FakeFleet, release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead.add("stream2")
    assert call(deploy, release=release) == 1
    err = capsys.readouterr().err
    assert "stream2" in err and "nothing was changed" in err
    assert {verb for _, verb, _ in fleet.calls} == {"facts"}


def test_rollback_takes_the_last_good_one(fleet: FakeFleet, release: str) -> None:
    assert call(deploy, release=release) == 0
    assert call(rollback) == 0
    assert {host.live.get("web") for host in fleet.hosts.values()} == {OLD, None}
    assert call(rollback) == 1  # there is nothing before it


def test_status_is_a_table_of_eighty_columns(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.hosts["stream2"].running["web"] = set()
    fleet.dead.add("worker1")
    assert call(status) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert OLD in lines[1] and lines[1].startswith("stream1")
    assert "web is not running" in out
    assert "unreachable" in out and "worker1" in err


def test_status_in_json(fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(status, json=True) == 0
    rows = {row["host"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["stream1"]["current"] == OLD and rows["stream1"]["schema_version"] == 1
    assert "current" not in rows["db1"] and rows["db1"]["reachable"]


@pytest.mark.parametrize(
    ("asks", "yes", "as_json", "says"),
    [
        (False, 0, False, None),
        (False, 3, False, None),
        (False, 4, False, "touch 3 hosts of stage, not 4"),
        (True, 3, True, None),
        (True, 0, True, "nobody is here to confirm"),
        (True, 0, False, "nobody is here to confirm"),  # no terminal
        (True, 2, False, "not 2"),
    ],
)
def test_the_number_of_hosts_is_the_answer(
    asks: bool, yes: int, as_json: bool, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    environment = Environment("stage", Path(), {}, {}, asks, ())
    if says is None:
        backline.tasks.operator.confirm(environment, 3, yes, as_json)
    else:
        with pytest.raises(BacklineError, match=says) as raised:
            backline.tasks.operator.confirm(environment, 3, yes, as_json)
        assert raised.value.exit_code == 6


def test_one_thing_is_counted_as_one_and_asked_for_as_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment("stage", Path(), {}, {}, True, ())
    confirm = backline.tasks.operator.confirm
    with pytest.raises(BacklineError, match="touch 1 host of stage, not 2"):
        confirm(environment, 1, 2, False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: "4")
    with pytest.raises(BacklineError, match="touch 1 dead letter of stage, not 4"):
        confirm(environment, 1, 0, False, "dead letter")
    assert "How many dead letters of stage" in capsys.readouterr().err


def test_the_question_is_asked_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment("production", Path(), {}, {}, True, ())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: "3")
    backline.tasks.operator.confirm(environment, 3, 0, False)
    assert "How many hosts of production" in capsys.readouterr().err
    monkeypatch.setattr("builtins.input", lambda: "")
    with pytest.raises(BacklineError):
        backline.tasks.operator.confirm(environment, 3, 0, False)


@pytest.mark.parametrize(
    ("key", "code", "says"), [(EOFError, 6, "not none"), (KeyboardInterrupt, 130, "interrupted")]
)
def test_who_leaves_the_question_is_told_that_nothing_has_begun(
    key: type[BaseException],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-D is no answer, and after Ctrl-C there is nothing to go on with."""

    def leave() -> str:
        raise key

    environment = Environment("production", Path(), {}, {}, True, ())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", leave)

    @backline.tasks.operator.operation()
    def change(c: Context) -> None:
        backline.tasks.operator.confirm(environment, 3, 0, False)

    with pytest.raises(SystemExit) as raised:
        change(Context())
    err = capsys.readouterr().err
    assert raised.value.code == code and says in err
    assert "state: nothing was changed" in err and "to go on" not in err


def collections() -> list[Collection]:
    import fabfile

    return [fabfile.namespace, backline.tasks.release.collection]


def test_every_task_has_a_summary_and_every_flag_a_help_text() -> None:
    for collection in collections():
        for name in collection.task_names:
            task = collection[name]
            assert task.__doc__ and len(task.__doc__.splitlines()[0]) > 20, name
            arguments = {argument.name.strip("_"): argument for argument in task.get_arguments()}
            assert all(argument.help for argument in arguments.values()), name
            assert not any(len(n) == 1 for a in arguments.values() for n in a.names), name


def fab(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "fabric", *words],
        cwd=ROOT,
        env={**os.environ, "BACKLINE_ENV": "", **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_fab_says_which_environments_there_are(tmp_path: Path) -> None:
    stage = tmp_path / "inventory" / "stage"
    stage.mkdir(parents=True)
    (stage / "hosts.yml").write_text("all: {hosts: {h1: null}}\n")
    done = fab("status", BACKLINE_ROOT=str(tmp_path))
    assert done.returncode == 1
    assert "--env NAME" in done.stderr and "environments: stage" in done.stderr


def test_h_selects_hosts_instead_of_repeating_the_task(tmp_path: Path) -> None:
    stage = tmp_path / "inventory" / "stage"
    stage.mkdir(parents=True)
    (stage / "hosts.yml").write_text("all: {hosts: {h1: null, h2: null}}\n")
    done = fab("-H", "h1,h9", "status", BACKLINE_ROOT=str(tmp_path), BACKLINE_ENV="stage")
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "'h9' is neither a group nor a host" in done.stderr
    both = "-H", "h1", "status", "--on", "h2"
    done = fab(*both, BACKLINE_ROOT=str(tmp_path), BACKLINE_ENV="stage")
    assert done.returncode == 1 and "-H and --on both name hosts" in done.stderr


@pytest.mark.parametrize(
    "words", ["-H h9 drain", "-Hh9 undrain", "--hosts=h9 workers.drain", "drain -H h9"]
)
def test_h_takes_the_place_of_the_word_for_hosts(tmp_path: Path, words: str) -> None:
    stage = tmp_path / "inventory" / "stage"
    stage.mkdir(parents=True)
    (stage / "hosts.yml").write_text("all: {hosts: {h1: null}}\n")
    done = fab(*words.split(), BACKLINE_ROOT=str(tmp_path), BACKLINE_ENV="stage")
    assert "'h9' is neither a group nor a host" in done.stderr
    # Whom it is about is said once, by one of the two.
    both = fab("-H", "h1", "drain", "h9", BACKLINE_ROOT=str(tmp_path), BACKLINE_ENV="stage")
    assert both.returncode == 1 and "No idea what 'h9' is" in both.stderr
    assert "positional" in fab("drain", BACKLINE_ROOT=str(tmp_path), BACKLINE_ENV="stage").stderr
