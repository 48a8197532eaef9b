"""database: a planned switchover leaves nobody waiting, whichever of its steps fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import database, undo
from backline.hostctl.errors import HostctlError, Refused, UsageError
from backline.hostctl.host import Completed
from backline.hostctl.names import Request

from .fake_cluster import ADDRESSES, PASSWORD, FakeCluster, make_certificates

TIMED_OUT = Completed(None, "", "")
BROKEN = Completed(1, "", "FATAL: no")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def cluster(tmp_path: Path, certificates: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(tmp_path, certificates)
    yield made
    made.close()


def ask(cluster: FakeCluster, action: str, **fields: Any) -> Any:
    return database.database(cluster.host, Request("database", {"action": action, **fields}))


def paused(cluster: FakeCluster) -> None:
    """Where a hostctl that was killed in the middle leaves it."""
    database.Member(cluster.host).bouncer.pause(3.0)
    assert cluster.pooler_paused


def test_a_switchover(cluster: FakeCluster) -> None:
    answer = ask(cluster, "switchover", candidate="db2")
    assert answer["leader"] == "db2"
    assert answer["seconds"]["waited"] < 5
    assert cluster.asked == [("db1", "/switchover", {"leader": "db1", "candidate": "db2"})]
    assert (cluster.pooler_paused, cluster.following) == (False, ADDRESSES["db2"])


def test_nobody_goes_on_before_the_new_leader_is_promoted(cluster: FakeCluster) -> None:
    """/primary says yes as soon as it has the lock; a write would be refused then."""
    seen: list[bool] = []

    def slow(candidate: str) -> tuple[int, str]:
        cluster.leader, cluster.promoted = candidate, False
        time.sleep(0.1)
        seen.append(cluster.pooler_paused)
        cluster.promoted = True
        return 200, "done"

    cluster.switch = slow
    ask(cluster, "switchover", candidate="db2")
    assert seen == [True]


def test_the_timer_that_undoes_it_is_there_before_the_pause_and_brings_it_home(
    cluster: FakeCluster,
) -> None:
    ask(cluster, "switchover", candidate="db2", linger=60)
    assert cluster.told.index("systemd-run") < cluster.told.index("PAUSE")
    (timer,) = cluster.timers.values()
    assert timer == ["60s", "/usr/local/bin/hostctl", "undo", "database"]
    cluster.timers.clear()  # it has elapsed
    assert undo.run(cluster.host, ["database"]) == 0
    assert cluster.following is None


def test_a_hostctl_that_was_killed_in_the_middle_is_undone(cluster: FakeCluster) -> None:
    """Clients wait, and another member leads meanwhile: they go on there, and it comes home later."""
    paused(cluster)
    cluster.leader = "db3"
    seen: list[object] = []
    sleep = cluster.host.sleep

    def look(seconds: float) -> None:
        seen.append((seconds >= 300, cluster.pooler_paused, cluster.following))
        sleep(seconds)

    cluster.host.sleep = look
    assert undo.run(cluster.host, ["database"]) == 0
    assert seen == [(True, False, ADDRESSES["db3"])]
    assert (cluster.pooler_paused, cluster.following) == (False, None)


def test_a_new_switchover_is_not_undone_by_the_timer_of_an_old_one(cluster: FakeCluster) -> None:
    paused(cluster)
    undo.later(cluster.host, "database", 60)
    cluster.leader = "db3"
    assert undo.run(cluster.host, ["database"]) == 0, "a timer is there: a new one has begun"
    assert cluster.following == ADDRESSES["db3"]
    assert undo.run(cluster.host, ["database"]) == 0, "one that is in its linger"
    assert cluster.following == ADDRESSES["db3"]


def refuses(cluster: FakeCluster) -> None:
    cluster.switch = lambda candidate: (412, "no good candidates have been found")


def fails_late(cluster: FakeCluster) -> None:
    """Demoted, nobody took over, and the old leader is the leader again."""

    def switch(candidate: str) -> tuple[int, str]:
        cluster.promoted = False
        time.sleep(0.05)
        cluster.promoted = True
        return 503, "Switchover failed"

    cluster.switch = switch


def another(cluster: FakeCluster) -> None:
    def switch(candidate: str) -> tuple[int, str]:
        return cluster.hand_over("db3")

    cluster.switch = switch


def nobody(cluster: FakeCluster) -> None:
    def switch(candidate: str) -> tuple[int, str]:
        cluster.leader = None
        time.sleep(2)
        return 503, "Switchover status unknown"

    cluster.switch = switch


def fails(key: str, how: Completed) -> Callable[[FakeCluster], None]:
    return lambda cluster: cluster.fails.update({key: how})


CASES: dict[str, tuple[Callable[[FakeCluster], None], str | None, str, str | None]] = {
    # what goes wrong: how, the error, what the message says, whom PgBouncer follows in the end
    "no timer": (fails("systemd-run", BROKEN), "systemd_failed", "nothing was held", None),
    "a long transaction": (fails("PAUSE", TIMED_OUT), "not_paused", "nothing is paused", None),
    "no console": (fails("PAUSE", BROKEN), "not_paused", "nothing is paused", None),
    "Patroni refuses": (refuses, "not_handed_over", "db1 leads, nobody waits", None),
    "nobody takes over": (fails_late, "not_handed_over", "db1 leads, nobody waits", None),
    "nobody leads": (nobody, "not_handed_over", "nobody takes writes, nobody waits", None),
    "another one leads": (another, None, "", "db3"),
    "it cannot follow": (fails("follow", BROKEN), "pgbouncer_failed", "db2 leads", None),
}


@pytest.mark.parametrize("name", CASES)
def test_whatever_fails_nobody_is_left_waiting(cluster: FakeCluster, name: str) -> None:
    arrange, code, words, follows = CASES[name]
    arrange(cluster)
    if code is None:
        ask(cluster, "switchover", candidate="db2")
    else:
        with pytest.raises(HostctlError) as caught:
            ask(cluster, "switchover", candidate="db2")
        assert caught.value.code == code
        assert words in caught.value.message
    assert not cluster.pooler_paused
    assert cluster.following == (ADDRESSES[follows] if follows else None)


def test_a_signal_in_the_middle_leaves_nobody_waiting(cluster: FakeCluster) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    cluster.switch = lambda candidate: (time.sleep(0.2), (200, ""))[1]  # type: ignore[func-returns-value]
    cluster.host.sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        ask(cluster, "switchover", candidate="db2")
    assert not cluster.pooler_paused


def test_when_it_cannot_resume_it_says_that_clients_wait(cluster: FakeCluster) -> None:
    refuses(cluster)
    cluster.fails["RESUME"] = BROKEN
    with pytest.raises(HostctlError) as caught:
        ask(cluster, "switchover", candidate="db2")
    assert "CLIENTS WAIT" in caught.value.message
    assert "backline-undo-database" in cluster.timers


def _set(**values: Any) -> Callable[[FakeCluster], None]:
    return lambda cluster: vars(cluster).update(values)


REFUSALS: dict[str, tuple[Callable[[FakeCluster], None], str]] = {
    "it does not lead": (_set(leader="db3"), "not_leader"),
    "nobody leads": (_set(leader=None), "no_leader"),
    "in maintenance": (_set(paused=True), "cluster_paused"),
    "another is scheduled": (_set(scheduled=True), "scheduled"),
    "a member is missing": (_set(listed={"db1", "db2"}), "member_missing"),
    "a member is ill": (lambda c: c.states.update(db3="start failed"), "member_missing"),
    "not the synchronous one": (_set(sync="db3"), "not_synchronous"),
    "it lags": (lambda c: c.lags.update(db2=2 * 1024 * 1024), "lagging"),
    "nobody knows its lag": (lambda c: c.lags.update(db2="unknown"), "lagging"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_risk_is_refused_before_anything_is_touched(cluster: FakeCluster, name: str) -> None:
    arrange, code = REFUSALS[name]
    arrange(cluster)
    with pytest.raises(Refused) as caught:
        ask(cluster, "switchover", candidate="db2")
    assert (caught.value.code, caught.value.exit_status) == (code, 6)
    assert "nothing was changed" in caught.value.message
    assert cluster.asked == [] and cluster.told == [] and cluster.timers == {}


@pytest.mark.parametrize("candidate", ["db1", "db9"])
def test_who_cannot_take_over(cluster: FakeCluster, candidate: str) -> None:
    with pytest.raises(Refused) as caught:
        ask(cluster, "switchover", candidate=candidate)
    assert caught.value.code == "no_candidate"


def test_it_may_be_told_to_come_home_again(cluster: FakeCluster) -> None:
    ask(cluster, "switchover", candidate="db2")
    assert [ask(cluster, "home")["already"] for _ in range(2)] == [False, True]
    assert (cluster.pooler_paused, cluster.following) == (False, None)
    assert cluster.timers == {}


def test_a_pause_that_a_restart_of_pgbouncer_ended_is_no_pause(cluster: FakeCluster) -> None:
    paused(cluster)
    cluster.fails["systemctl show"] = Completed(0, "4712\n", "")
    assert ask(cluster, "status")["pgbouncer"]["paused"] is False


def test_status(cluster: FakeCluster) -> None:
    answer = ask(cluster, "status")
    assert (answer["leader"], answer["synchronous"], answer["trouble"]) == ("db1", True, None)
    assert answer["etcd"] == dict.fromkeys(ADDRESSES, "healthy")
    assert answer["pgbouncer"] == {
        "trouble": None, "paused": False, "following": None, "active": 5, "waiting": 0,
    }  # fmt: skip
    assert PASSWORD not in json.dumps(answer)


def test_status_when_this_member_s_patroni_is_dead(cluster: FakeCluster) -> None:
    cluster.silent = {"db1"}
    assert ask(cluster, "status")["leader"] == "db1"
    cluster.silent = set(ADDRESSES)
    answer = ask(cluster, "status")
    assert answer["leader"] is None and "db3" in answer["trouble"]


def test_a_failover_is_for_a_leader_that_is_dead(cluster: FakeCluster) -> None:
    with pytest.raises(Refused) as caught:
        ask(cluster, "failover", candidate="db2")
    assert caught.value.code == "leader_lives"
    cluster.promoted = False
    with pytest.raises(Refused) as caught:
        ask(cluster, "failover", candidate="db3")
    assert caught.value.code == "not_synchronous"
    assert ask(cluster, "failover", candidate="db2")["leader"] == "db2"
    assert cluster.asked == [("db1", "/failover", {"candidate": "db2"})]


def test_a_failover_that_patroni_refuses(cluster: FakeCluster) -> None:
    cluster.leader = None
    refuses(cluster)
    with pytest.raises(HostctlError) as caught:
        ask(cluster, "failover", candidate="db3", accept_loss=True)
    assert caught.value.code == "not_failed_over"
    assert "no good candidates" in caught.value.message


def test_a_leader_is_not_restarted(cluster: FakeCluster) -> None:
    with pytest.raises(Refused) as caught:
        ask(cluster, "restart")
    assert caught.value.code == "is_leader"
    assert not any(words[:2] == ["systemctl", "restart"] for words in cluster.calls)


@pytest.mark.parametrize(
    "arrange", [_set(listed={"db1", "db2"}), lambda c: c.states.update(db3="stopped")]
)
def test_a_replica_is_not_restarted_while_another_member_is_away(
    cluster: FakeCluster, arrange: Callable[[FakeCluster], None]
) -> None:
    cluster.leader = "db2"
    arrange(cluster)
    with pytest.raises(Refused) as caught:
        ask(cluster, "restart")
    assert caught.value.code == "member_missing"


def test_a_restart_ends_when_the_replica_is_in_step(cluster: FakeCluster) -> None:
    cluster.leader, cluster.sync = "db2", "db1"
    cluster.states.update(db1="streaming", db2="running")
    assert "seconds" in ask(cluster, "restart")
    cluster.lags["db1"] = 4096
    with pytest.raises(HostctlError) as caught:
        ask(cluster, "restart")
    assert caught.value.code == "not_restarted"


def test_the_only_member_is_restarted_when_an_outage_is_accepted(cluster: FakeCluster) -> None:
    path = cluster.root / "etc/backline/database.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "members": written["members"][:1]}))
    cluster.listed, cluster.sync = {"db1"}, None
    with pytest.raises(Refused) as caught:
        ask(cluster, "restart")
    assert caught.value.code == "is_alone"
    assert "seconds" in ask(cluster, "restart", outage=True)


def test_settings_that_others_may_read_are_refused(cluster: FakeCluster) -> None:
    path = cluster.root / "etc/backline/database.json"
    path.chmod(0o640)
    with pytest.raises(HostctlError) as caught:
        ask(cluster, "status")
    assert caught.value.code == "bad_settings"
    path.unlink()
    with pytest.raises(HostctlError) as caught:
        ask(cluster, "status")
    assert caught.value.code == "no_database"


def test_no_secret_is_on_a_command_line(cluster: FakeCluster) -> None:
    ask(cluster, "switchover", candidate="db2")
    assert not any(PASSWORD in word for words in cluster.calls for word in words)


def test_only_the_timer_may_undo(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUDO_USER", "deploy")
    assert undo.run(cluster.host, ["database"]) == 6
    monkeypatch.delenv("SUDO_USER")
    assert undo.run(cluster.host, ["everything"]) == 2


def test_a_question_is_asked_as_a_role_that_can_only_read(cluster: FakeCluster) -> None:
    answer = ask(cluster, "query", sql=" select 1 ", database="jukebox")
    assert answer == {"output": "1\n", "cut": False, "role": "backline_reader"}
    assert {"--username=backline_reader", "--dbname=jukebox", "--command=select 1"} <= set(
        cluster.calls[-1]
    )
    assert ask(cluster, "query", sql="delete from a", write=True)["role"] == "backline_writer"


@pytest.mark.parametrize("sql", ["\\! id", "  \\copy a to program 'id'", "", " ", None, 7, "a\0b"])
def test_psql_s_own_commands_are_refused(cluster: FakeCluster, sql: object) -> None:
    with pytest.raises(UsageError):
        ask(cluster, "query", sql=sql)
    assert cluster.calls == []
