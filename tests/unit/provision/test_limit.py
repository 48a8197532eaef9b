"""A playbook touches the hosts that were confirmed: what Ansible makes of the limit that we hand it."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from backline import inventory, places
from backline.inventory import Environment, Host
from backline.provision.recap import Recap
from backline.selection import select
from backline.tasks import provision
from backline.transport import playbook
from backline.transport.playbook import Ended, limit_words

HOSTS = tuple(f"h{number}" for number in range(1, 401))
PATTERNS = ["h[1-300]", "h[1-300]:!h7", "all:!h[1-9]", "h[1-2]", "h400"]


@pytest.fixture
def fleet(tmp_path: Path) -> Environment:
    """400 hosts, as Ansible reads them and as we do."""
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "hosts.ini").write_text("[apps]\n" + "\n".join(HOSTS) + "\n")
    hosts = {name: Host(name, name, 22, "deploy", None, None, None, ("apps",)) for name in HOSTS}
    return Environment("stage", tmp_path / "stage", hosts, {"apps": HOSTS}, False, ())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ansible_takes_a_limit_for_the_hosts_that_were_selected(
    fleet: Environment, tmp_path: Path, pattern: str
) -> None:
    """The pattern itself is something else to it: of a group h those from the second to the 301st."""
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    wanted = select(fleet, pattern)
    flag, limit = limit_words(wanted, tmp_path)
    theirs = InventoryManager(loader=DataLoader(), sources=[str(fleet.folder / "hosts.ini")])
    assert theirs.get_hosts("h[1-300]") == [] and len(theirs.get_hosts("all:!h[1-9]")) == 400
    theirs.subset(limit)
    assert flag == "--limit" and [host.name for host in theirs.get_hosts("all")] == wanted
    assert limit.startswith("@") == (len(wanted) > playbook.LIMIT_NAMES)
    for path in tmp_path.glob("limit"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_limit_and_a_limit_of_nobody_are_told_apart(tmp_path: Path) -> None:
    assert limit_words(None, tmp_path) == []
    with pytest.raises(ValueError):
        limit_words([], tmp_path)


def test_a_run_lists_exactly_these_hosts_and_leaves_no_file(
    fleet: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through ansible-runner and ansible-playbook, as every run goes."""
    kept = tmp_path / "tmp"
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    play = tmp_path / "play.yml"
    play.write_text("- hosts: all\n  gather_facts: false\n  tasks: []\n")
    wanted = select(fleet, "h[1-300]")
    ended = playbook.run(
        play,
        fleet.folder / "hosts.ini",
        cwd=tmp_path,
        options=["--list-hosts"],
        limit=wanted,
        env={"ANSIBLE_CONFIG": str(places.CHECKOUT / "ansible.cfg")},
        take=lambda event: None,
    )
    assert ended.code == 0, ended.said
    listed = [line.strip() for line in ended.said.splitlines()]
    assert sorted(line for line in listed if line in HOSTS) == sorted(wanted)
    assert not list(kept.iterdir())


@pytest.mark.parametrize("task", [provision.provision, provision.drift])
@pytest.mark.parametrize("on", [*PATTERNS, ""])
def test_names_are_what_a_run_is_limited_to_never_the_pattern(
    fleet: Environment, monkeypatch: pytest.MonkeyPatch, task: Any, on: str
) -> None:
    limits: list[Any] = []

    def run(fleet: Any, name: str, options: list[str], stock: bool, view: Any, limit: Any) -> Any:
        limits.append(limit)
        assert "--limit" not in options
        return Recap(ended=True), Ended(0, False, "")

    monkeypatch.setattr(inventory, "load", lambda name: fleet)
    monkeypatch.setattr(provision, "run", run)
    task(Context(), env="stage", on=on)
    assert limits == [select(fleet, on) if on else None]


def test_the_check_of_variables_and_the_run_have_the_same_limit(
    fleet: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("playbooks", "roles"):
        (tmp_path / name).mkdir()
    (tmp_path / "playbooks" / "site.yml").touch()
    (tmp_path / "ansible.cfg").touch()
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    limits: list[Any] = []

    def ansible(path: Path, inventory: Path, *, limit: Any, **_: object) -> Ended:
        limits.append(limit)
        return Ended(0, False, "")

    monkeypatch.setattr(playbook, "run", ansible)
    monkeypatch.setattr(inventory, "load", lambda name: fleet)
    provision.provision(Context(), env="stage", on="h[1-300]")
    provision.provision(Context(), env="stage", on="h[1-300]")  # the variables are known by now
    provision.provision(Context(), env="stage", on="h[1-299]")
    assert [len(limit) for limit in limits] == [300, 300, 300, 299, 299]


def test_a_dry_run_says_what_would_be_typed(
    fleet: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inventory, "load", lambda name: fleet)
    provision.provision(Context(), env="stage", on="h[1-300]", dry_run=True, json=True)
    argv = json.loads(capsys.readouterr().out.splitlines()[-1])["argv"]
    assert argv[argv.index("--limit") + 1].split(",") == list(HOSTS[:300])
