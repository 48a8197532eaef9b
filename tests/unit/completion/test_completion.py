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
import termios
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
POOLS = {
    "web": {"kind": "http"},
    "beat": {"kind": "singleton"},
    "plays": {"kind": "worker"},
    "mail": {"kind": "worker"},
}
PLANS = ["97a34c80be90", "0123456789ab"]
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
        (tmp_path / "dist" / f"{name}.release.json").write_text(json.dumps({"processes": POOLS}))
    plans = tmp_path / ".backline" / "lab" / "plans"
    plans.mkdir(parents=True)
    for number, name in enumerate(PLANS, start=1):
        (plans / f"{name}.json").touch()
        os.utime(plans / f"{name}.json", (1000 - number, 1000 - number))
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
        ("fab status --env lab -H str", ["streaming", "stream1", "stream2"]),
        ("fab run uptime --env lab -H 'all:!db", ["all:!db1"]),
        ("fab logs --env lab --hosts st", ["streaming", "stream1", "stream2"]),
        ("fab logs --env lab -H stream1 --fol", ["--follow"]),
        ("fab status --help --wat", ["--watch"]),
        ("fab status --env staging --on str", []),
        ("fab status --on str", []),  # which environment?
        ("fab deploy --env lab --release 2026", [NEW, OLD]),
        ("fab deploy --release la", ["latest"]),
        ("fab deploy.contract --release la", []),
        ("fab deploy.resume --env lab --run ", ["20260303T000000Z-ann-1"]),
        ("fab rollback --to 20260101", [OLD]),
        ("fab workers.requeue --to ", []),
        ("fab db.switchover --env lab --to ", HOSTS),
        ("fab audit --env lab --run 2026", ["20260303T000000Z-ann-1"]),
        ("fab audit --env lab --run l", ["latest"]),
        ("fab report --env lab late", ["latest"]),
        ("fab provision --playbook pat", ["patch"]),
        ("fab logs --priority e", ["emerg", "err"]),
        ("fab patch --reboots ", ["auto", "never", "always"]),
        ("fab db.backup --kind ", ["full", "diff"]),
        ("fab db.vacuum --by a", ["age"]),
        ("fab deploy --by ", ["zone"]),
        ("fab deploy.plan --unsure=p", ["pause"]),
        ("fab deploy --env lab --plan ", PLANS),
        ("fab db.restore --env lab --to ", ["newest"]),
        ("fab workers.scale pl", ["plays"]),
        ("fab workers.drain worker1 --pool ", ["mail", "plays"]),
        ("fab workers.drain s --env lab st", []),
        ("fab workers.drain --env lab st", ["streaming", "stream1", "stream2"]),
        ("fab workers.drain --env lab --on stream1 st", []),
        ("fab drain --env lab d", ["database", "db1"]),  # and not drift, db.status
        ("fab run st", []),
        ("fab run uptime --on all --env la", ["lab"]),
        ("fab run status --wat", []),
        ("fab status st", []),
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


def test_a_word_of_the_task_may_come_or_a_flag(root: Path, bash_script: Path) -> None:
    seen = tab(bash_script, "fab drain --env lab ")
    assert seen[:2] == ["all", "streaming"] and "stream1" in seen and "--skip" in seen
    assert "drain" not in seen and "--env" not in seen
    assert "stream1" not in tab(bash_script, "fab drain stream2 --env lab ")


def test_the_words_that_tab_offers_are_those_that_the_task_takes() -> None:
    from backline.errors import BacklineError
    from backline.operations.database import tables
    from backline.rollout import strategy

    found = cache.tasks()
    assert set(found["db.vacuum"]["flags"]["--by"]["choices"]) == set(tables.ORDERS)
    for rule in ("by", "unsure"):
        words = found["deploy"]["flags"][f"--{rule}"]["choices"]
        assert words == found["deploy.plan"]["flags"][f"--{rule}"]["choices"] != []
        for word in words:
            strategy.read({rule: word})
        with pytest.raises(BacklineError):
            strategy.read({rule: "nonsense"})
    assert found["status"]["flags"]["--env"]["choices"] == []


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


# Keys into an interactive shell: nothing else shows that the shell asks, and what Enter would run.

PROMPT = "at your service "
COLUMNS = 240
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--private"],
}
# The prompt is put together, so that what is typed is not taken for it.
SOURCE = {
    "bash": "source {}; PS1='at your ser''vice '",
    "zsh": "autoload -Uz compinit; compinit -u -D; source {}; PS1='at your ser''vice '",
    # Fish shows a guess before anybody presses TAB.
    "fish": "set -g fish_autosuggestion_enabled 0; source {}; "
    "function fish_prompt; echo 'at your ser''vice '; end",
}


class Terminal:
    """A shell that knows the completion of `fab`, and somebody who types."""

    def __init__(self, shell: str, folder: Path) -> None:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed: `inv test.unit` sees to it")
        path = folder / f"fab.{shell}"
        path.write_text(script(shell))
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
            os.environ |= {"TERM": "xterm", "INPUTRC": "/dev/null", "LC_ALL": "C.UTF-8", **homes}
            os.execvp(shell, START[shell])
        termios.tcsetwinsize(self.terminal, (60, COLUMNS))
        self._type(SOURCE[shell].format(path) + "\n", PROMPT)

    def press(self, keys: str, *expected: str) -> str:
        """What these keys bring onto the screen, read until all that is expected is there."""
        return self._type(f"\x15{keys}", *expected)  # what was on the line goes first

    def _type(self, keys: str, *expected: str) -> str:
        """What the shell writes after these keys until it is what was expected, 30 seconds at most."""
        os.write(self.terminal, keys.encode())
        seen, end = "", time.monotonic() + 30
        while not all(text in seen for text in expected):
            if not select.select([self.terminal], [], [], max(0.0, end - time.monotonic()))[0]:
                break
            raw = os.read(self.terminal, 65536).decode(errors="replace")
            seen += re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]|\x07", "", raw)
        return seen

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.terminal)  # the shell is hung up
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_tab_puts_it_where_it_belongs(root: Path, tmp_path: Path, shell: str) -> None:
    """Tasks, flags, groups, hosts, releases; also in an open quote and behind a colon."""
    typed = {
        "fab deploy.res": "fab deploy.resume",
        "fab status --wat": "fab status --watch",
        "fab status --env sta": "fab status --env staging",
        "fab status --env lab --on dat": "fab status --env lab --on database",
        "fab status --env lab --on stream1,db": "fab status --env lab --on stream1,db1",
        "fab status --env lab --on=db": "fab status --env lab --on=db1",
        "fab status --env lab --on database:zo": "fab status --env lab --on database:zone_a",
        "fab status --env lab --on 'streaming:&zo": "fab status --env lab --on 'streaming:&zone_a'",
        "fab rollback --to 20260101": f"fab rollback --to {OLD}",
        "fab patch --reboots nev": "fab patch --reboots never",
        "fab workers.scale pl": "fab workers.scale plays",
    }
    with Terminal(shell, tmp_path) as terminal:
        for keys, expected in typed.items():
            seen = terminal.press(f"{keys}\t", expected)
            assert expected in seen, seen


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_tab_says_what_each_is_for(root: Path, tmp_path: Path, shell: str) -> None:
    shown = {
        "fab loc": ["lock.release", "Free the lease of a run whose holder is dead"],
        "fab lock.release --": ["--run", "--json", "one JSON object per line on stdout"],
        "fab status --env lab --on ": ["streaming", "2 hosts", "database", "1 host", "stream1"],
        "fab status --env lab --on db1:": ["db1:streaming", "2 hosts", "db1:stream2"],
    }
    with Terminal(shell, tmp_path) as terminal:
        for keys, expected in shown.items():
            seen = terminal.press(f"{keys}\t\t", *expected)
            assert [text for text in expected if text not in seen] == [], seen


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_tab_shows_the_newest_release_first(root: Path, tmp_path: Path, shell: str) -> None:
    with Terminal(shell, tmp_path) as terminal:
        seen = terminal.press("fab rollback --to 2026\t\t", NEW, OLD)
    assert 0 <= seen.find(NEW) < seen.find(OLD), seen


def test_zsh_and_fish_are_told_what_each_is_for(root: Path) -> None:
    argv = [sys.executable, "-IS", str(ROOT / "backline" / "completion" / "answer.py")]
    done = subprocess.run(
        [*argv, "fish", "fab status --env lab --on stream"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["streaming\t2 hosts", "stream1", "stream2"]
    done = subprocess.run(
        [*argv, "zsh", "fab status --env lab --on db1:st"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )  # in zsh a colon stands before the description
    told = ["db1\\:streaming:2 hosts", "db1\\:stream1", "db1\\:stream2"]
    assert done.stdout.splitlines() == told


# What it knows.


@pytest.fixture
def checkout(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> answer.Place:
    """A checkout whose refreshes are noted, not run."""
    (tmp_path / "fabfile.py").write_text("")
    (tmp_path / "backline" / "tasks").mkdir(parents=True)
    return answer.Place(tmp_path, tmp_path)


def test_tab_leaves_a_foreign_project_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "fabfile.py").touch()
    monkeypatch.delenv("BACKLINE_ROOT", raising=False)
    monkeypatch.chdir(foreign)
    assert answer.find() == answer.Place(answer.OWN_ROOT, answer.OWN_ROOT)
    (foreign / "backline" / "completion").mkdir(parents=True)
    (foreign / "backline" / "completion" / "answer.py").touch()
    assert answer.find() == answer.Place(foreign, foreign)


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
