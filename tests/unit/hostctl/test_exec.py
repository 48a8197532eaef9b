"""`hostctl exec`, as a unit runs it."""

from __future__ import annotations

import pytest

from backline.hostctl import execute
from backline.hostctl.errors import HostctlError

from .fake_host import PROCESSES, R1, Lab, environment

FLAGS = ["--app", "jukebox", "--process", "web", "--release", R1]


def test_the_command_is_filled_in(lab: Lab) -> None:
    lab.plant(R1)
    with environment(JUKEBOX_X="from the unit"):
        command, variables, folder = execute.prepare(lab.host, execute.parse(FLAGS))
    release = lab.releases / R1
    socket = lab.path(f"run/jukebox/{R1}.sock")
    assert command == [f"{release}/venv/bin/greet", "--bind", f"unix:{socket}", "-w", "2"]
    assert folder == f"{release}/app"
    assert variables["BACKLINE_RELEASE"] == R1 and variables["BACKLINE_VERSION"] == "1.1"
    assert variables["PATH"].startswith(f"{release}/venv/bin:")
    assert variables["JUKEBOX_X"] == "from the unit"


def test_pools_have_their_own_parameters(lab: Lab) -> None:
    lab.plant(R1)
    flags = [flag.replace("web", "worker-plays") for flag in FLAGS]
    command, variables, _ = execute.prepare(lab.host, execute.parse(flags))
    assert command[1:] == ["-Q", "plays"] and variables["BACKLINE_PROCESS"] == "worker-plays"


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ([], "missing_field"),
        (FLAGS[:-1], "bad_flag"),
        ([*FLAGS, "--now"], "bad_flag"),
        ([*FLAGS[:-1], "../x"], "bad_field"),
        (["--app=radio", *FLAGS[2:]], "unknown_app"),
        (["--app=jukebox", "--process=cron", f"--release={R1}"], "unknown_process"),
        ([*FLAGS[:-1], R1.replace("1a", "2a")], "not_staged"),
    ],
)
def test_what_cannot_be_run_is_a_clear_error(lab: Lab, flags: list[str], code: str) -> None:
    lab.plant(R1)
    with pytest.raises(HostctlError) as caught:
        execute.prepare(lab.host, execute.parse(flags))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["{venv}/bin/x", "{sokcet}"], "unknown_placeholder"),
        ("{venv}/bin/x", "bad_command"),
        ([], "bad_command"),
        (None, "bad_command"),
    ],
)
def test_commands_that_make_no_sense(lab: Lab, command: object, code: str) -> None:
    lab.plant(R1, processes={"web": {**PROCESSES["web"], "command": command}})
    with pytest.raises(HostctlError) as caught:
        execute.prepare(lab.host, execute.parse(FLAGS))
    assert caught.value.code == code


def test_braces_that_are_no_placeholders_stay(lab: Lab) -> None:
    command = ["x", '{"a": 1}', "{}", "{A}", "{process}"]
    lab.plant(R1, processes={"web": {**PROCESSES["web"], "command": command}})
    found, _, _ = execute.prepare(lab.host, execute.parse(FLAGS))
    assert found == ["x", '{"a": 1}', "{}", "{A}", "web"]


def test_a_release_without_the_process(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.plant(R1, processes={})
    assert execute.run(lab.host, FLAGS) == 1
    assert "has no process web" in capsys.readouterr().err


def test_a_program_that_is_not_there(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.plant(R1)
    monkeypatch.chdir(lab.root)
    assert execute.run(lab.host, FLAGS) == 1
    assert "cannot run" in capsys.readouterr().err


def test_root_never_becomes_a_process_of_a_release(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deploy user may run hostctl as root, and must not get to run a release's code as root."""
    lab.plant(R1)
    lab.host.become = True
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert execute.run(lab.host, FLAGS) == 6
    assert "never runs as root" in capsys.readouterr().err
