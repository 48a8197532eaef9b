"""What TAB gives: asked of real shells, with the script that `fab completion.*` prints."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backline.completion import answer, cache
from backline.tasks.completion import script

ROOT = Path(__file__).parents[3]
NEW, OLD = "20260202T000000Z-0000002", "20260101T000000Z-0000001"
HOSTS = ["stream1", "stream2", "db1"]
GROUPS = {"streaming": ["stream1", "stream2"], "database": ["db1"], "zone_a": ["stream1", "db1"]}
TAB_SECONDS = 0.2


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root with two environments, of which `lab` was read before; two releases; a run."""
    for name in ("lab", "staging"):
        folder = tmp_path / "inventory" / name
        folder.mkdir(parents=True)
        (folder / "hosts.yml").write_text("all: {hosts: {h1: null}}\n")
        os.utime(folder / "hosts.yml", (1000, 1000))
    (tmp_path / "inventory" / "empty").mkdir()
    kept = tmp_path / ".cache" / "inventory" / f"lab-{'0' * 32}.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"hosts": [{"name": n} for n in HOSTS], "groups": GROUPS}))
    (tmp_path / "dist").mkdir()
    for name in (OLD, NEW):
        (tmp_path / "dist" / f"{name}.release.json").write_text("{}")
    (tmp_path / ".backline" / "lab" / "runs" / "20260303T000000Z-ann-1").mkdir(parents=True)
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    monkeypatch.delenv("BACKLINE_ENV", raising=False)
    (tmp_path / ".cache" / "completion-staging.tried").touch()  # nobody asks Ansible for a test
    yield tmp_path


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "fab.bash"
    path.write_text(script("bash"))
    return path


CALL = """
source "$1"
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
$(complete -p fab | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(bash_script: Path, line: str) -> list[str]:
    """COMPREPLY of a real bash with the cursor at the end of a line."""
    argv = ["bash", "--norc", "--noprofile", "-c", CALL, "bash", str(bash_script), line]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fab stat", ["status"]),
        ("fab deploy.res", ["deploy.resume"]),
        ("fab loc", ["lock", "lock.release", "lock.show"]),
        ("fab --help dri", ["drift"]),
        ("fab -h dri", ["drift"]),
        ("fab status --wat", ["--watch"]),
        ("fab status --watch --wat", []),
        ("fab status --env la", ["lab"]),
        ("fab status --env ", ["lab", "staging"]),
        ("fab status --env=l", ["lab"]),  # bash replaces what follows the equals sign
        ("fab status --env lab --on str", ["streaming", "stream1", "stream2"]),
        ("fab status --env lab --on=db", ["db1"]),
        ("fab status --env lab --on streaming:zo", ["zone_a"]),
        ("fab status --env lab --on stream1,d", ["stream1,database", "stream1,db1"]),
        ("fab status --env lab --on 'streaming:&zo", ["streaming:&zone_a"]),
        ("fab status --env lab --on 'all:!db", ["all:!db1"]),
        ("fab -H db status --env lab --on zone", ["zone_a"]),
        ("fab status --env staging --on str", []),
        ("fab status --on str", []),  # which environment?
        ("fab deploy --env lab --release 2026", [NEW, OLD]),
        ("fab deploy --release la", ["latest"]),
        ("fab rollback --to 20260101", [OLD]),
        ("fab db.switchover --env lab --to ", HOSTS),
        ("fab audit --env lab --run 2026", ["20260303T000000Z-ann-1"]),
        ("fab report --env lab late", ["latest"]),
        ("fab provision --playbook pat", ["patch"]),
        ("fab status --env lab doctor --loc", ["--local"]),
        ("fab nonsense --", ["--help", "--hosts", "--list", "--version"]),
        ("cd /tmp; fab stat", ["status"]),
        ("fab status --interval ", []),
        ("fab status --env lab --on 'no such ", []),
        ("fab status --env lab --on 'it\\'s --wat", ["--watch"]),
    ],
)  # fmt: skip
def test_bash_completes(root: Path, bash_script: Path, line: str, expected: list[str]) -> None:
    assert tab(bash_script, line) == expected


def test_the_variable_names_the_environment(
    root: Path, bash_script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_ENV", "lab")
    assert tab(bash_script, "fab status --on db") == ["db1"]


def test_all_tasks_and_all_flags_are_there(root: Path, bash_script: Path) -> None:
    import inspect

    import fabfile

    names = set(tab(bash_script, "fab "))
    for name, aliases in fabfile.namespace.task_names.items():
        assert {name, *aliases} <= names
    expected = list(inspect.signature(fabfile.namespace["deploy.start"].body).parameters)[1:]
    flags = tab(bash_script, "fab deploy --")
    assert flags == [f"--{name.replace('_', '-')}" for name in expected]


def test_tab_answers_soon_also_with_ten_thousand_hosts(root: Path, bash_script: Path) -> None:
    hosts = [f"stream{number}" for number in range(10_000)]
    groups = {f"group{number}": hosts[number::30] for number in range(30)}
    kept = next((root / ".cache" / "inventory").iterdir())
    kept.write_text(json.dumps({"hosts": [{"name": n} for n in hosts], "groups": groups}))
    took = []
    for _ in range(5):
        began = time.monotonic()
        argv = [sys.executable, "-IS", str(ROOT / "backline" / "completion" / "answer.py")]
        argv += ["bash", "fab status --env lab --on stream999"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
        took.append(time.monotonic() - began)
        assert len(done.stdout.split()) == 11
    assert min(took) < TAB_SECONDS, took


def test_readline_puts_it_where_it_belongs(root: Path, bash_script: Path) -> None:
    """Keys into an interactive bash: an open quote, a colon, and what Enter would run."""
    typed = {
        "fab status --env lab --on 'streaming:&zo\t": "fab status --env lab --on 'streaming:&zone_a'",
        "fab status --env lab --on database:zo\t": "fab status --env lab --on database:zone_a",
        "fab deploy.res\t": "fab deploy.resume",
    }
    for keys, expected in typed.items():
        seen = _type(bash_script, keys, expected)
        assert expected in seen, seen


def _type(bash_script: Path, keys: str, expected: str) -> str:
    """What is on the command line of an interactive bash after these keys."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ |= {"PS1": "> ", "TERM": "dumb", "INPUTRC": "/dev/null"}
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        os.write(terminal, f"source {bash_script}; stty cols 200; echo rea''dy\n".encode())
        _read_until(terminal, "ready")
        os.write(terminal, keys.encode())
        return _read_until(terminal, expected)
    finally:
        os.close(terminal)  # bash is hung up
        os.waitpid(pid, 0)


def _read_until(terminal: int, expected: str) -> str:
    """What comes until the expected text does, ten seconds at most."""
    found, end = "", time.monotonic() + 10
    while expected not in found and (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            raw = os.read(terminal, 65536).decode(errors="replace")
            found += re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]|\x07", "", raw)
    return found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete(root: Path, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / f"fab.{shell}"
    path.write_text(script(shell))
    if shell == "fish":
        ask = f"source {path}; complete --do-complete 'fab status --env lab --on str'"
        argv = ["fish", "--no-config", "-c", ask]
    else:  # LBUFFER and compadd exist only while somebody types: they are played
        ask = (
            "compdef() {}; compadd() { shift 4; print -l ${(P)1}; }; LBUFFER=$2; "
            f"source {path}; _backline_fab"
        )
        argv = ["zsh", "-f", "-c", ask, "zsh", "x", "fab status --env lab --on str"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    found = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert sorted(found) == ["stream1", "stream2", "streaming"]


def test_zsh_and_fish_are_told_what_each_is_for(root: Path) -> None:
    argv = [sys.executable, "-IS", str(ROOT / "backline" / "completion" / "answer.py")]
    done = subprocess.run(
        [*argv, "fish", "fab status --env lab --on stream"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["streaming\t2 hosts", "stream1", "stream2"]
    done = subprocess.run([*argv, "zsh", "fab drif"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("drift\tTell where hosts differ")


# What it knows.


@pytest.fixture
def checkout(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> answer.Place:
    """A checkout whose refreshes are noted, not run."""
    (tmp_path / "fabfile.py").write_text("")
    (tmp_path / "backline" / "tasks").mkdir(parents=True)
    return answer.Place(tmp_path, tmp_path)


def test_tasks_are_looked_at_again_when_they_changed(
    checkout: answer.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(
        answer, "_refresh", lambda place, words, wait, mark=None: asked.append((words, wait))
    )
    answer.known_tasks(checkout)
    assert asked == [([], True)]  # the first time TAB has to wait
    kept = checkout.checkout / ".cache" / answer.TASKS
    kept.write_text(json.dumps({"format": answer.FORMAT, "tasks": {"status": {}}}))
    assert answer.known_tasks(checkout) == {"status": {}} and len(asked) == 1
    newer = checkout.checkout / "backline" / "tasks" / "new.py"
    newer.write_text("")
    os.utime(newer, (time.time() + 60, time.time() + 60))
    assert answer.known_tasks(checkout) == {"status": {}}
    assert asked[1:] == [([], False)]  # later ones go on with what is known
    kept.write_text(json.dumps({"format": 0, "tasks": {"old": {}}}))
    answer.known_tasks(checkout)
    assert asked[2:] == [([], True)]


def test_an_inventory_that_changed_is_read_again_and_not_at_every_tab(
    checkout: answer.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(
        subprocess,
        "Popen",
        lambda argv, **options: asked.append(argv[-1:]),
    )
    assert answer.inventory("lab", checkout)[0] == HOSTS and not asked
    hosts = checkout.root / "inventory" / "lab" / "hosts.yml"
    os.utime(hosts, (time.time() + 60, time.time() + 60))
    for _ in range(3):
        assert answer.inventory("lab", checkout)[0] == HOSTS
    assert asked == [["lab"]]


def test_what_it_keeps_of_tasks_is_what_they_are() -> None:
    found = cache.tasks()
    assert found["lock"] == found["lock.show"]
    assert found["status"]["flags"]["--watch"]["value"] is False
    assert found["status"]["flags"]["--interval"]["value"] is True
    assert found["report"]["positional"] == ["run"]


def test_nothing_is_ever_shown_amid_the_command_line() -> None:
    argv = [sys.executable, "-IS", str(ROOT / "backline" / "completion" / "answer.py")]
    for words in ([], ["bash"], ["bash", "fab \x00"[:4]], ["bash", "'"], ["bash", ""]):
        done = subprocess.run([*argv, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.stderr == ""


def test_it_imports_nothing_of_ours_and_nothing_heavy() -> None:
    text = (ROOT / "backline" / "completion" / "answer.py").read_text()
    assert not re.search(r"^\s*(from|import) (backline|fabric|invoke|yaml)", text, re.M)
