"""backup and broker: what the hosts' own programs say, read without a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import backups, broker
from backline.hostctl.errors import HostctlError, UsageError
from backline.hostctl.host import Completed, Host
from backline.hostctl.names import Request

RESULT = {"schema_version": 1, "job": "full", "good": True, "began": 1.0, "ended": 2.0}


class Programs:
    """Answers by the first words of a command line; what was run is in `calls`."""

    def __init__(self, answers: dict[str, Completed]) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def __call__(self, argv: Any, **options: Any) -> Completed:
        line = " ".join(argv)
        self.calls.append(line)
        found = [answer for words, answer in self.answers.items() if words in line]
        return found[0] if found else Completed(0, "", "")


@pytest.fixture
def keeper(tmp_path: Path) -> tuple[Host, Programs]:
    for path in ("etc/backline", "etc/systemd/system", "var/lib/backline-backup"):
        (tmp_path / path).mkdir(parents=True)
    settings = {"state_dir": "/var/lib/backline-backup"}
    (tmp_path / "etc/backline/backup.json").write_text(json.dumps(settings))
    (tmp_path / "etc/systemd/system/backline-backup@.service").touch()
    (tmp_path / "var/lib/backline-backup/full.json").write_text(json.dumps(RESULT))
    (tmp_path / "var/lib/backline-backup/drill.json").write_text('{"torn')
    idle = Completed(0, "ActiveState=inactive\nJob=0\n", "")
    log = Completed(0, "== restore\n-- cursor: s=1;i=2\n", "")
    programs = Programs({"systemctl show": idle, "journalctl": log})
    return Host(tmp_path, run=programs), programs


def backup(host: Host, action: str, **fields: Any) -> Any:
    return backups.backup(host, Request("backup", {"action": action, **fields}))


def test_how_the_jobs_went(keeper: tuple[Host, Programs]) -> None:
    jobs = backup(keeper[0], "status")["jobs"]
    assert jobs["full"] == {**RESULT, "running": False}
    assert jobs["drill"] == jobs["diff"] == {"running": False}


def test_a_job_is_started_once_and_not_waited_for(keeper: tuple[Host, Programs]) -> None:
    host, programs = keeper
    wanted = {"already": False, "cursor": "s=1;i=2", "before": 0}
    assert backup(host, "start", job="drill") == wanted
    assert "systemctl start --no-block backline-backup@drill.service" in programs.calls
    programs.calls.clear()
    programs.answers["systemctl show"] = Completed(0, "ActiveState=activating\n", "")
    assert backup(host, "start", job="drill")["already"] is True
    assert not [line for line in programs.calls if line.startswith("systemctl start")]


@pytest.mark.parametrize(
    ("shown", "before"),
    [
        ("ActiveState=inactive\nJob=0\nInactiveExitTimestamp=@1", 2.0),
        ("ActiveState=failed\nJob=7\nInactiveExitTimestamp=@1", 2.0),  # it waits for its turn
        ("ActiveState=activating\nInactiveExitTimestamp=@900", 2.0),
        ("ActiveState=activating\nInactiveExitTimestamp=@1", 0),  # the result is its own already
        ("ActiveState=inactive\nInactiveExitTimestamp=", 2.0),
    ],
)
def test_whose_result_is_there_when_a_job_is_followed(
    keeper: tuple[Host, Programs], shown: str, before: float
) -> None:
    """One that is killed later leaves it as it is: it must not pass for the killed one's."""
    host, programs = keeper
    programs.answers["systemctl show"] = Completed(0, f"{shown}\n", "")
    assert backup(host, "start", job="full")["before"] == before


def test_its_log_goes_on_where_it_was_left(keeper: tuple[Host, Programs]) -> None:
    host, programs = keeper
    answer = backup(host, "follow", job="full", cursor="s=1;i=1")
    assert answer == {
        "running": False,
        "log": ["== restore"],
        "cursor": "s=1;i=2",
        "result": RESULT,
    }
    assert "--after-cursor=s=1;i=1" in programs.calls[-1]
    programs.answers["systemctl show"] = Completed(0, "ActiveState=activating\n", "")
    assert backup(host, "follow", job="full")["result"] == {}, "that is the run before"


def test_only_known_jobs_and_only_where_backups_are_kept(
    keeper: tuple[Host, Programs], tmp_path: Path
) -> None:
    host, programs = keeper
    with pytest.raises(UsageError):
        backup(host, "start", job="../x")
    (tmp_path / "etc/systemd/system/backline-backup@.service").unlink()
    with pytest.raises(HostctlError) as caught:
        backup(host, "start", job="full")
    assert caught.value.code == "no_repository"
    assert programs.calls == []


STATUS = {
    "alarms": [{"node": "rabbit@broker1", "resource": "memory", "type": "resource_limit"}],
    "disk_nodes": ["rabbit@broker1", "rabbit@broker2"],
    "running_nodes": ["rabbit@broker1"],
    "partitions": {},
}


def rabbit(tmp_path: Path, **over: Completed) -> tuple[Host, Programs]:
    (tmp_path / "etc/rabbitmq").mkdir(parents=True)
    (tmp_path / "etc/rabbitmq/rabbitmq.conf").touch()
    answers = {
        "cluster_status": Completed(0, json.dumps(STATUS), ""),
        "quorum_critical": Completed(0, "", ""),
    }
    programs = Programs({**answers, **over})
    return Host(tmp_path, run=programs), programs


def test_a_broker_says_who_is_away_and_what_is_wrong(tmp_path: Path) -> None:
    """Its queues are read in test_vitals.py; without metrics all else is told still."""
    host, _ = rabbit(tmp_path)
    answer = broker.broker(host, Request("broker", {"action": "status"}))
    assert answer == {
        "members": ["rabbit@broker1", "rabbit@broker2"],
        "running": ["rabbit@broker1"],
        "alarms": ["memory on rabbit@broker1"],
        "partitions": {},
        "critical": None,
        "queues": [],
        "unknown": "no RabbitMQ with metrics here",
    }


def test_a_broker_that_may_not_stop_and_one_that_does_not_answer(tmp_path: Path) -> None:
    said = Completed(1, "", "Error:\nqueue plays would lose its quorum")
    host, programs = rabbit(tmp_path, quorum_critical=said)
    answer = broker.broker(host, Request("broker", {"action": "status"}))
    assert answer["critical"] == "Error: queue plays would lose its quorum"
    for ended in (Completed(69, "", "nodedown"), Completed(None, "", ""), Completed(0, "Er", "")):
        programs.answers["cluster_status"] = ended
        with pytest.raises(HostctlError) as caught:
            broker.broker(host, Request("broker", {"action": "status"}))
        assert caught.value.code == "broker_silent"


def test_a_host_without_rabbitmq(tmp_path: Path) -> None:
    with pytest.raises(HostctlError) as caught:
        broker.broker(Host(tmp_path), Request("broker", {"action": "status"}))
    assert caught.value.code == "no_broker"
