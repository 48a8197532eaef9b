"""Restarts, reboots and upgrades: what the playbook is told, and what is refused before it begins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from calling import call

import backline.transport.playbook
from backline import inventory, stdout
from backline.inventory import Environment, Host
from backline.provision import lock
from backline.provision.recap import Change, HostCount, Recap
from backline.rollout import audit
from backline.tasks import provision, records, upkeep
from backline.tasks.converging import View
from backline.tasks.run import run
from backline.tasks.shell import shell
from backline.transport.playbook import Ended

HOSTS = ("db1", "db2", "stream1")
GROUPS = {"database": ("db1", "db2"), "streaming": ("stream1",)}


class Playbook:
    """In place of Ansible: keeps what it was asked to run."""

    def __init__(self) -> None:
        self.name = ""
        self.options: list[str] = []

    def run(
        self,
        fleet: Environment,
        name: str,
        options: list[str],
        stock: bool,
        view: object,
        *limit: object,
    ) -> tuple[Recap, Ended]:
        self.name, self.options = name, options
        recap = Recap(ended=True)
        recap.told.append("db1  restarted: patroni.service")
        recap.hosts["db1"] = HostCount(ok=1, changed=1)
        recap.changes["1"] = Change("Sort the hosts", "", ["db1"])
        return recap, Ended(0, False, "")

    @property
    def told(self) -> dict[str, Any]:
        extra: dict[str, Any] = json.loads(self.options[self.options.index("-e") + 1])
        return extra


@pytest.fixture
def playbook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Playbook:
    """An environment that asks for the number of hosts, and a playbook that runs nowhere."""
    hosts = {
        name: Host(name, name, 22, "deploy", None, None, None, tuple(g for g in GROUPS if name in GROUPS[g]))
        for name in HOSTS
    }  # fmt: skip
    known = Environment("stage", tmp_path, hosts, GROUPS, True, ())
    made = Playbook()
    monkeypatch.setattr(inventory, "load", lambda name: known)
    monkeypatch.setattr(provision, "run", made.run)
    return made


def test_a_restart_upgrades_and_reboots_nothing(playbook: Playbook) -> None:
    assert call(upkeep.restart, on="database", yes=2) == 0
    assert playbook.name == "patch"
    told = playbook.told
    assert (told["patch_packages"], told["patch_reboot"]) == (False, "never")
    assert told["patch_restart"] == ["main"] and told["patch_hosts"] == "db1,db2"
    assert "--check" not in playbook.options and told["patch_outage"] is False


def test_services_have_the_names_that_people_use(playbook: Playbook) -> None:
    assert call(upkeep.restart, on="all", service="postgresql, nginx,app", yes=3) == 0
    assert playbook.told["patch_restart"] == ["patroni", "nginx", "app"]


@pytest.mark.parametrize("service", ["nginx;reboot", "../x", "a b", "-x"])
def test_what_is_no_unit_is_refused(playbook: Playbook, service: str) -> None:
    assert call(upkeep.restart, on="all", service=service, yes=3) == 1
    assert not playbook.options


@pytest.mark.parametrize("transfers", [-1, 3601])
def test_downloads_are_not_waited_for_longer_than_a_lease_may_last(
    playbook: Playbook, capsys: pytest.CaptureFixture[str], transfers: int
) -> None:
    assert call(upkeep.reboot, on="database", transfers=transfers, yes=2) == 1
    assert "3600 at most" in capsys.readouterr().err and not playbook.options


@pytest.mark.parametrize("service", [",", " ", " , "])
def test_a_service_without_a_name_is_not_everything_that_a_host_is_there_for(
    playbook: Playbook, capsys: pytest.CaptureFixture[str], service: str
) -> None:
    assert call(upkeep.restart, on="all", service=service, yes=3) == 1
    assert call(upkeep.patch, on="all", reinstall=service, yes=3) == 1
    assert "leave --service out" in capsys.readouterr().err and not playbook.options


@pytest.mark.parametrize(
    ("task", "words"), [(upkeep.restart, ()), (upkeep.patch, ()), (run, ("true",)), (shell, ())]
)
def test_what_may_hurt_asks_where_in_the_same_words(
    playbook: Playbook, capsys: pytest.CaptureFixture[str], task: Any, words: tuple[str, ...]
) -> None:
    assert call(task, *words, on=" ", yes=3) == 1
    assert "on which hosts? --on PATTERN says so" in capsys.readouterr().err


@pytest.mark.parametrize("task", [upkeep.restart, upkeep.reboot, upkeep.patch])
def test_without_hosts_or_with_a_typing_error_nothing_is_run(playbook: Playbook, task: Any) -> None:
    assert call(task, yes=3) == 1
    assert call(task, on="databse", yes=3) == 1
    assert not playbook.options


def test_the_number_of_hosts_is_asked_for(playbook: Playbook) -> None:
    assert call(upkeep.reboot, on="database", yes=3) == 6
    assert call(upkeep.reboot, on="database", json=True) == 6
    assert not playbook.options
    assert call(upkeep.reboot, on="database", yes=2, outage=True) == 0
    assert playbook.told["patch_reboot"] == "always" and playbook.told["patch_outage"] is True


@pytest.mark.parametrize(
    ("task", "flags", "says"),
    [
        (upkeep.restart, {}, "restart db[1-2] of stage"),
        (upkeep.restart, {"service": "nginx,app"}, "restart nginx, app on db[1-2] of stage"),
        (upkeep.reboot, {}, "reboot db[1-2] of stage"),
        (upkeep.patch, {}, "patch db[1-2] of stage"),
        (provision.provision, {}, "provision db[1-2] of stage"),
        (provision.provision, {"playbook": "pki.yml"}, "playbooks/pki.yml on db[1-2] of stage"),
    ],
)
def test_what_is_touched_is_named_before_the_question_and_not_counted(
    playbook: Playbook,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    task: Any,
    flags: dict[str, str],
    says: str,
) -> None:
    """Who types 2 must have thought of two hosts, and sees which ones they are."""
    shown: list[str] = []

    def answer() -> str:
        shown.append(capsys.readouterr().err)
        return "2"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    assert call(task, on="database", **flags) == 0
    assert says in shown[0] and "2 hosts" not in shown[0]
    assert call(task, on="database", yes=2, **flags) == 0 and len(shown) == 1


def test_a_command_is_shown_with_its_hosts_before_the_question(
    playbook: Playbook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: "5")
    assert call(run, "systemctl stop nginx", on="database", sudo=True) == 6
    first, question, *_ = capsys.readouterr().err.splitlines()
    assert first == "  run 'systemctl stop nginx' as root on db[1-2] of stage"
    assert question.startswith("How many hosts of stage")


@pytest.mark.parametrize(
    ("task", "flags", "typed"),
    [
        (upkeep.reboot, {"on": "db1", "yes": 1}, "when that is corrected: fab reboot --on db1"),
        (
            provision.drift,
            {"playbook": "patch"},
            "ansible-playbook -i {folder} playbooks/patch.yml --check --diff",
        ),
        (
            provision.provision,
            {"playbook": "pki", "on": "db1", "yes": 1},
            "ansible-playbook -i {folder} playbooks/pki.yml --limit db1",
        ),
    ],
)
def test_when_ansible_gives_up_the_next_command_is_the_same_one(
    playbook: Playbook,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task: Any,
    flags: dict[str, Any],
    typed: str,
) -> None:
    """Another playbook than the one that failed would converge everything."""
    monkeypatch.setattr(sys, "argv", ["/bin/fab", "reboot", "--on", "db1"])
    failed = Recap(ended=True), Ended(4, False, "patch_hosts is not defined")
    monkeypatch.setattr(provision, "run", lambda *_: failed)
    assert call(task, **flags) == 1
    err = capsys.readouterr().err
    assert f"{typed.format(folder=tmp_path)}\n" in err and "site.yml" not in err


def test_what_ansible_said_has_no_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ansible_runner

    def run(*, event_handler: Any, **_: Any) -> Any:
        event_handler({"event": "verbose", "stdout": "\x1b[0;31mERROR! no hosts\x1b[0m\x1b[K"})
        return SimpleNamespace(rc=4)

    monkeypatch.setattr(ansible_runner.interface, "run", run)
    ended = backline.transport.playbook.run(
        tmp_path / "x.yml", tmp_path, cwd=tmp_path, env={}, take=lambda event: None
    )
    assert ended == Ended(4, False, "ERROR! no hosts")


def test_a_rehearsal_asks_nobody_and_tells_what_would_be_done(
    playbook: Playbook, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(upkeep.patch, on="database", dry_run=True, json=True, reinstall="etcd-server") == 0
    assert "--check" in playbook.options
    assert playbook.told["patch_reinstall"] == ["etcd-server"]
    events = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert "db1  restarted: patroni.service" in [e.get("text") for e in events]
    # What would change is told of, and is no reason to end with 2: that there is work is no drift.
    assert events[-1]["hosts"]["db1"]["changed"] == 1
    assert "Sort the hosts" in [e.get("task") for e in events]


@pytest.mark.parametrize("name", ["patch", "site"])
@pytest.mark.parametrize("flags", [[], ["--check"]])
def test_hosts_are_told_whose_run_it_is_and_which_one_was_cut_off(
    name: str, flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / f"{name}.yml").touch()
    told: list[list[str]] = []

    def ansible(path: Path, inventory: Path, *, options: list[str], **_: object) -> Ended:
        told.append(options)
        interrupted = len(told) == 1
        return Ended(0, interrupted, "")

    monkeypatch.setattr(backline.transport.playbook, "run", ansible)
    monkeypatch.setattr(provision, "_preflight", lambda *_: None)
    fleet = Environment("stage", tmp_path, {}, GROUPS, True, ())
    stdout._changing.clear()
    for _ in range(3):
        view = View(as_json=True, diff=False)
        provision.run(fleet, name, flags, False, view)
    assert stdout._changing, "a reader that goes away would cut Ansible off"
    extra = [json.loads(words[words.index("-e") + 1]) for words in told if "-e" in words]
    if name == "site":
        assert not extra
    else:
        first, second, third = extra
        assert first["patch_run"].startswith("patch-") and "@" in first["patch_holder"]
        after = "" if flags else first["patch_run"]
        assert [one["patch_killed"] for one in extra] == ["", after, ""]
        assert len({one["patch_run"] for one in extra}) == 3
    assert lock.unended(provision.kept(), "stage") == []
    entries = audit.commands(records.read_audit("stage").entries)
    assert [entry["exit_code"] for entry in entries] == ([] if flags else [130, 0, 0])


@pytest.mark.parametrize("answered", [True, False])
def test_only_a_host_that_went_silent_on_the_way_is_half_way(
    answered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was dead before was not touched: nothing was cut off there."""
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    (tmp_path / "playbooks").mkdir()
    for name in ("patch", "site"):
        (tmp_path / "playbooks" / f"{name}.yml").touch()
    told: list[list[str]] = []

    def ansible(
        path: Path, inventory: Path, *, options: list[str], take: Any, **_: object
    ) -> Ended:
        told.append(options)
        if len(told) > 1:
            return Ended(0, False, "")
        for kind in ["runner_on_ok"] * answered + ["runner_on_unreachable"]:
            take({"event": kind, "event_data": {"host": "stream1"}})
        return Ended(4, False, "")

    monkeypatch.setattr(backline.transport.playbook, "run", ansible)
    monkeypatch.setattr(provision, "_preflight", lambda *_: None)
    fleet = Environment("stage", tmp_path, {}, GROUPS, True, ())
    for name, left in (("patch", answered), ("site", answered), ("patch", False)):
        view = View(as_json=True, diff=False)
        view.start(name, "stage", ["stream1", "stream2"], False)
        provision.run(fleet, name, [], False, view)
        assert ("was cut off" in provision.killed(fleet)) is left
    first, third = (json.loads(words[1]) for words in (told[0], told[2]))
    assert third["patch_killed"] == (first["patch_run"] if answered else "")
