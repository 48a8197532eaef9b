"""What a restart, reboot or patch that ends half way undoes, and what it leaves to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_patch_look import TASKS, said

EVERYTHING = ["broker", "database", "edge", "streaming"]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


def tasks(page: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load((TASKS / page).read_text(encoding="utf-8")))


def flat(page: str) -> list[dict[str, Any]]:
    """The tasks of a file in their order, also those of a block."""
    return [one for task in tasks(page) for one in task.get("block", [task])]


def carried_out(**facts: Any) -> list[str]:
    """The tasks of stop.yml that would run on a host of every kind."""
    groups = dict.fromkeys(EVERYTHING, ["host1", "host2"])
    known = {"inventory_hostname": "host1", "groups": groups, **facts}
    done = []
    for task in tasks("stop.yml"):
        when = task.get("when", [])
        conditions = when if isinstance(when, list) else [when]
        if all(said("{{ " + condition + " }}", **known) for condition in conditions):
            done.append(task["name"].removeprefix("Stop | "))
    return done


def test_a_run_that_was_refused_undoes_nothing() -> None:
    """Proxies, the shared address and the broker may be the work of the run that it was refused for."""
    undone = {"Readers may come to this database again", "Clients may come to this broker again"}
    assert not undone & set(carried_out())
    assert len(carried_out(__patch_begun=True)) == len(carried_out()) + 3
    (mark,) = [task for task in tasks("stop.yml") if "Say that nobody works" in task["name"]]
    command = mark["ansible.builtin.script"]["cmd"]
    assert said(command, __patch_run="patch-1") == "upkeep_mark.py drop patch-1"
    assert said(command, __patch_run="patch-1", __patch_begun=True).split()[1] == "leave"


@pytest.mark.parametrize(
    ("page", "first"),
    [
        ("database_before.yml", "Database | The leader hands over first"),
        ("broker_before.yml", "Broker | Clients and leaders of queues move to other nodes"),
    ],
)
def test_what_is_only_looked_at_has_not_begun(page: str, first: str) -> None:
    names = [one["name"] for one in flat(page)]
    assert names[names.index(first) - 1].endswith("Something is begun from here on")


def test_proxies_are_held_in_the_name_of_the_run() -> None:
    """Then hostctl lets nobody else release them."""
    asked = []
    for page in ("switchover.yml", "database_before.yml", "database_after.yml", "stop.yml"):
        always = [one for block in tasks(page) for one in block.get("always", [])]
        for task in flat(page) + always:
            words = task.get("ansible.builtin.command", {})
            if "proxy" in words.get("argv", []) and "status" not in words["stdin"]:
                asked.append(words["stdin"])
    assert len(asked) == 6 and all("'run': __patch_run" in stdin for stdin in asked), asked


def test_who_would_be_missed_is_looked_for_before_the_host_is_marked() -> None:
    names = [one["name"].partition("| ")[2] for one in flat("guards.yml")]
    looked = names.index("See that another one of its kind serves while it boots")
    assert names.index("See whether something was begun here") < looked
    assert looked < names.index("Say who works on it")


def test_a_host_boots_under_a_lease_that_was_asked_for_after_its_last_download() -> None:
    names = [one["name"] for one in flat("reboot.yml")]
    waited = names.index("Reboot | Wait until its last download has ended")
    boots = names.index("Reboot | Boot anew")
    between = flat("reboot.yml")[waited:boots]
    assert "lease.yml" in [one.get("ansible.builtin.include_tasks") for one in between]


def test_a_host_that_did_not_come_back_is_told_of_in_the_words_of_all_others(
    tmp_path: Path,
) -> None:
    """To Ansible a host that does not answer is out of the play: nothing more would be said of it."""
    (tmp_path / "files").symlink_to(TASKS.parents[1] / "files")
    play = [
        {
            "hosts": "host1",
            "gather_facts": False,
            "vars": {"__patch_run": "patch-1", "__patch_begun": True, "__app_hosts": ["host2"]},
            "tasks": [
                {
                    "block": [{"name": "Boot anew", "ansible.builtin.fail": {"msg": "timed out"}}],
                    "rescue": [{"ansible.builtin.include_tasks": str(TASKS / "stop.yml")}],
                }
            ],
        }
    ]
    host = {"ansible_host": "127.0.0.1", "ansible_port": 1, "app_name": "jukebox"}
    hosts = {"host1": host, "host2": host}
    groups = {group: {"hosts": {"host1": None}} for group in [*EVERYTHING, "patch_queue"]}
    groups["broker"] = groups["patch_queue"] = {"hosts": {"host1": None, "host2": None}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"hosts": hosts, "children": groups}})
    )
    done = subprocess.run(
        [ANSIBLE, "-i", "hosts.yml", "play.yml"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    said_of_it = " ".join(done.stdout.split())
    assert done.returncode == 2, done.stdout + done.stderr
    assert "host1: Boot anew" in said_of_it and "timed out" in said_of_it
    assert "Hosts after it were not touched: host2" in said_of_it.replace("\\n", " ")
    assert "unreachable=0" in said_of_it and "failed=1" in said_of_it
