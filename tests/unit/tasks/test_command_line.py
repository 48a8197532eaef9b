"""What `fab` makes of what was typed, before any task begins: real processes, as an operator starts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GIVEN_NOTHING = "was given nothing"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fab` of a virtual environment that has the packages of this one, as `make` leaves it."""
    here, made = Path(sys.prefix), tmp_path_factory.mktemp("a checkout") / ".venv"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (made / "lib").symlink_to(here / "lib")
    shutil.copy(here / "pyvenv.cfg", made)
    subprocess.run(["sh", str(ROOT / "lab" / "own-fab"), str(made)], check=True)
    return made / "bin" / "fab"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with an environment of two hosts, which must be confirmed by nobody."""
    root = tmp_path_factory.mktemp("root")
    (root / "inventory" / "stage").mkdir(parents=True)
    (root / "inventory" / "stage" / "hosts.yml").write_text("edge: {hosts: {h1: null, h2: null}}\n")
    return root


@pytest.fixture
def fab(program: Path, stage: Path) -> object:
    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *words],
            cwd=ROOT,
            env={**os.environ, "BACKLINE_ROOT": str(stage), "BACKLINE_ENV": "stage"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    return typed


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that was not begun has said: an error and what to do, and nothing of Python."""
    assert done.returncode == 1 and done.stdout == "", done
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) <= 4
    return done.stderr


def test_a_host_pattern_that_is_nothing_is_no_host(fab) -> None:  # type: ignore[no-untyped-def]
    for words in (["run", "true", "--dry-run"], ["provision", "--dry-run"], ["status"]):
        assert "has an empty part" in refused(fab(*words, "--on", ","))
        assert "has '!' for a part" in refused(fab(*words, "--on", "all:!"))
        for nothing in (["--on", ""], ["--on", " "], ["--on="]):
            assert f"--on {GIVEN_NOTHING}" in refused(fab(*words, *nothing))
    assert "no regular expression" in refused(fab("restart", "--dry-run", "--on", "~str("))
    assert "an empty host pattern" in refused(fab("drain", " ", "--dry-run"))
    assert f"-H {GIVEN_NOTHING}" in refused(fab("-H", "", "status"))
    assert "has an empty part" in refused(fab("-H", "h1,", "status"))


def test_a_command_without_a_task_is_refused_though_fabric_would_run_it(fab) -> None:  # type: ignore[no-untyped-def]
    """It would connect with Fabric's own client, which takes any host key, to a name of no inventory."""
    said = refused(fab("-H", "127.0.0.9", "--", "df", "-h"))
    assert "behind --" in said and "next: fab run 'df -h' --on 127.0.0.9" in said
    assert "fab run uptime --on HOST" in refused(fab("--", "uptime"))
    assert "behind --" in refused(fab("status", "-H", "h1", "--", "uptime"))


def test_whoever_makes_the_virtual_environment_has_that_program() -> None:
    for target in ("demo", "test", "test-fast", "clean"):
        argv = ["make", "--dry-run", "--always-make", target]
        told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert told.index("sh lab/bootstrap") < told.index("sh lab/own-fab"), target


def test_fabrics_own_program_refuses_what_stands_behind_a_task_too(stage: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fabric", "-H", "h1", "status", "--", "uptime"],
        cwd=ROOT,
        env={**os.environ, "BACKLINE_ROOT": str(stage), "BACKLINE_ENV": "stage"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "behind --" in refused(done)


def test_words_of_an_unquoted_command_start_no_task(fab) -> None:  # type: ignore[no-untyped-def]
    """`fab run echo rollback` was a command `echo` and then a rollback of the fleet."""
    said = refused(fab("run", "--on", "edge", "--dry-run", "echo", "rollback"))
    assert "2 tasks on one command line: run, rollback" in said
    assert "nothing was started" in said and "fab run 'CMD' --on PATTERN" in said
    assert "3 tasks" in refused(fab("status", "releases", "lock"))
    assert fab("run", "--on", "edge", "--dry-run", "echo rollback").stdout.endswith(
        "echo rollback\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "true", "--on", "edge", "--timeout", "x"], "--timeout takes a whole number"),
        (["run", "true", "--on", "edge", "--timeout=1.5"], "--timeout takes a whole number"),
        (["restart", "--on", "edge", "--yes", "abc"], "--yes takes a whole number, not 'abc'"),
        (["workers.scale", "mail", "--children", "x"], "--children takes a whole number"),
        (["status", "--interval", "soon"], "--interval takes a number, not 'soon'"),
        (["status", "--watch", "--interval", "nan"], "--interval takes a number, not 'nan'"),
        (["status", "--watch", "--interval", "inf"], "--interval takes a number, not 'inf'"),
        (["status", "--watch", "--interval", "0"], "--interval is more than 0 seconds"),
        (["status", "--watch", "--interval", "-1"], "--interval is more than 0 seconds"),
        (["audit", "--limit", "-1"], "--limit is a number from 0 up, not -1"),
        (["releases", "--limit=-3"], "--limit is a number from 0 up, not -3"),
        (["logs", "--priority", "²"], "there is no priority '²'"),
        (["certs", "--days", "nan"], "--days takes a number"),
        (["-t", "soon", "status"], "takes a whole number"),
        (["status", "-t", "soon"], "takes a whole number"),
        (["restart", "--on", "edge", "--service", ","], "--service ',' names nothing"),
        (["restart", "--on", "edge", "--service", ""], f"--service {GIVEN_NOTHING}"),
        (["logs", "--unit", ","], "--unit ',' names nothing"),
        (["logs", "--unit", ""], f"--unit {GIVEN_NOTHING}"),
        (["status", "--env", ""], f"--env {GIVEN_NOTHING}"),
    ],
)
def test_a_mistake_in_a_flag_is_one_error(fab, words: list[str], says: str) -> None:  # type: ignore[no-untyped-def]
    assert says in refused(fab(*words))


@pytest.mark.parametrize(
    "words", ["run --help", "run -h", "run --env stage --help", "drain --help", "-H h1 run --help"]
)
def test_help_of_a_task_can_follow_its_name(fab, words: str) -> None:  # type: ignore[no-untyped-def]
    done = fab(*words.split())
    assert done.returncode == 0 and done.stderr == ""
    task = "drain" if "drain" in words else "run"
    assert done.stdout.startswith(f"Usage: fab [--core-opts] {task} ")
    assert "--env=STRING" in done.stdout and "INT" in fab("run", "--help").stdout


def test_a_flag_behind_a_command_is_not_the_command(fab) -> None:  # type: ignore[no-untyped-def]
    told = fab("run", "df -h", "--on", "edge", "--dry-run").stdout
    assert told.endswith("as the deploy user: df -h\n")
    told = fab("run", " --x -y", "--on", "edge", "--dry-run").stdout
    assert told.endswith("as the deploy user:  --x -y\n")
    assert fab("run", "df", "--help").stdout.startswith("Usage: fab")
