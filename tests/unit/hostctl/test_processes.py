"""start, check and stop: one instance, beside whatever serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backline.hostctl import record
from backline.hostctl.names import Request

from .fake_host import PROCESSES, R1, R2, Lab

UNIT = "jukebox-web@{}.service"


@pytest.fixture
def ready(lab: Lab) -> Iterator[Lab]:
    """Two staged releases and a lease."""
    lab.plant(R1, R2)
    lab.take(lifetime=3600)
    yield lab


def test_start_is_idempotent(ready: Lab) -> None:
    ready.systemd.starts_after = 3
    expected = {"ok": True, "unit": UNIT.format(R1), "already": False}
    assert ready.ok("start", release=R1, process="web") == expected
    assert ready.ok("start", release=R1, process="web") == {**expected, "already": True}
    assert ready.systemd.running() == {UNIT.format(R1)}
    assert [e["event"] for e in ready.journal()] == ["take", "begin", "done"]


def test_what_is_not_staged_cannot_be_started(ready: Lab) -> None:
    missing = R1.replace("1a", "2a")
    assert ready.refused("start", release=missing, process="web") == (1, "not_staged")


def test_a_process_that_dies_at_start_is_stopped_and_explained(ready: Lab) -> None:
    ready.systemd.fails_to_start.add(UNIT.format(R2))
    status, answer = ready.call("start", release=R2, process="web")
    assert (status, answer["error"]["code"]) == (1, "start_failed")
    assert "Traceback" in answer["error"]["hint"]
    assert ["systemctl", "stop", "--no-block", UNIT.format(R2)] in ready.systemd.calls
    assert ready.journal()[-1]["event"] == "failed"


def test_a_process_that_never_gets_ready_is_given_up(ready: Lab) -> None:
    ready.systemd.starts_after = 10_000
    status, answer = ready.call("start", release=R2, process="web", deadline=5)
    assert answer["error"]["code"] == "start_failed" and "5 s" in answer["error"]["message"]


def test_a_crash_loop_is_not_waited_for(ready: Lab) -> None:
    ready.systemd.starts_after = 10_000
    unit = ready.systemd.unit(UNIT.format(R1))
    unit.update(active="activating", sub="auto-restart", polls=10_000)
    before = ready.clock.boottime
    ready.systemd._start = lambda names, flags: None  # type: ignore[method-assign]
    assert ready.refused("start", release=R1, process="web") == (1, "start_failed")
    assert ready.clock.boottime - before < 1


def test_a_missing_unit_is_named(lab: Lab) -> None:
    lab.plant(R1)
    path = lab.path("etc/backline/apps/jukebox/processes/web.json")
    path.write_text(path.read_text().replace("jukebox-web@", "missing-web@"))
    lab.take()
    assert lab.refused("start", release=R1, process="web") == (1, "unit_missing")


def test_a_scheduler_never_runs_twice(ready: Lab) -> None:
    ready.ok("start", release=R1, process="beat")
    assert ready.refused("start", release=R2, process="beat") == (6, "singleton_running")
    assert ready.ok("start", release=R1, process="beat")["already"] is True
    ready.ok("stop", release=R1, process="beat")
    ready.ok("start", release=R2, process="beat")


def test_stop_waits_for_the_work_to_be_finished(ready: Lab) -> None:
    ready.systemd.stops_after = 20
    ready.ok("start", release=R1, process="worker-plays")
    assert ready.ok("stop", release=R1, process="worker-plays") == {
        "ok": True, "stopped": True, "already": False
    }  # fmt: skip
    assert ready.systemd.running() == set()
    assert ready.ok("stop", release=R1, process="worker-plays")["already"] is True


def test_stop_gives_up_waiting_and_says_in_what_state_things_are(ready: Lab) -> None:
    ready.systemd.stops_after = 10_000
    ready.ok("start", release=R1, process="worker-plays")
    status, answer = ready.call("stop", release=R1, process="worker-plays")
    assert (status, answer["error"]["code"]) == (1, "stop_timeout")
    assert "20 s" in answer["error"]["message"]  # its stop_timeout of 5 s and some grace


def test_a_killed_web_process_leaves_no_socket(ready: Lab) -> None:
    socket = ready.path(f"run/jukebox/{R1}.sock")
    socket.touch()
    ready.ok("stop", release=R1, process="web")
    assert not socket.exists()


def test_healthy_is_several_times_in_a_row(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    answer = ready.ok("check", release=R1, process="web", passes=4)
    assert (answer["healthy"], answer["passes"], len(answer["history"])) == (True, 4, 4)
    assert answer["history"][0]["status"] == 200 and answer["history"][0]["ms"] >= 0
    assert UNIT.format(R1) in answer["history"][0]["detail"]


def test_a_process_that_recovers_passes(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    answers = iter([503, 200, 503])
    ready.systemd.answer = lambda path: next(answers, 200)
    answer = ready.ok("check", release=R1, process="web")
    assert [sample["ok"] for sample in answer["history"]] == [False, True, False, True, True, True]


def test_flapping_never_passes(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    counter = iter(range(10_000))
    ready.systemd.answer = lambda path: 200 if next(counter) % 3 else 500
    status, answer = ready.call("check", release=R1, process="web", passes=3, deadline=20)
    assert (status, answer["error"]["code"]) == (1, "unhealthy")
    assert answer["error"]["healthy"] is False
    assert "Traceback" in answer["error"]["hint"]
    assert 30 < len(answer["error"]["history"]) < 45


def test_a_restart_between_two_checks_is_a_failure(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    unit = ready.systemd.unit(UNIT.format(R1))

    def restart(path: str) -> int:
        unit["restarts"] += 1
        return 200

    ready.systemd.answer = restart
    assert ready.refused("check", release=R1, process="web", passes=2) == (1, "unhealthy")


def test_the_health_path_of_the_release_is_asked(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    ready.systemd.answer = lambda path: 200 if path == "/readyz" else 404
    ready.ok("check", release=R1, process="web", passes=1)


def test_a_stopped_process_is_unhealthy_at_once(ready: Lab) -> None:
    before = ready.clock.boottime
    assert ready.refused("check", release=R1, process="web") == (1, "unhealthy")
    assert ready.clock.boottime == before


def test_a_worker_is_healthy_when_it_is_up_and_its_command_agrees(lab: Lab) -> None:
    command = ["sh", "-c", 'test $BACKLINE_RELEASE = {release} -a -n "$JUKEBOX_SECRET_KEY"']
    worker = {**PROCESSES["worker"], "health": {"command": command}}
    failing = {**worker, "health": {"command": ["sh", "-c", "echo $JUKEBOX_SECRET_KEY; exit 3"]}}
    lab.plant(R1, processes={"worker": worker})
    lab.plant(R2, processes={"worker": failing})
    lab.take()
    for release in (R1, R2):
        lab.ok("start", release=release, process="worker-plays")
    lab.ok("check", release=R1, process="worker-plays", passes=2)
    _, answer = lab.call("check", release=R2, process="worker-plays", deadline=1)
    sample = answer["error"]["history"][0]
    assert sample["status"] == 3 and sample["detail"] == "***"


def test_a_health_command_that_hangs_is_killed(lab: Lab) -> None:
    health = {"command": ["sleep", "60"], "timeout": 0.2}
    lab.plant(R1, processes={"worker": {**PROCESSES["worker"], "health": health}})
    lab.take()
    lab.ok("start", release=R1, process="worker-plays")
    _, answer = lab.call("check", release=R1, process="worker-plays", deadline=0.5)
    assert "within 0.2 s" in answer["error"]["message"]


def test_a_start_under_way_is_joined(ready: Lab) -> None:
    """Its controller was killed and another one starts it again: once ordered, once written."""
    ready.systemd._start([UNIT.format(R1)], [])
    ready.systemd.unit(UNIT.format(R1))["polls"] = 5
    entries, calls = len(ready.journal()), len(ready.systemd.calls)
    answer = ready.ok("start", release=R1, process="web")
    assert answer == {"ok": True, "unit": UNIT.format(R1), "already": True}
    assert len(ready.journal()) == entries
    assert ["systemctl", "start", "--no-block", UNIT.format(R1)] not in ready.systemd.calls[calls:]


def test_a_joined_start_that_fails_says_so_and_writes_nothing(ready: Lab) -> None:
    ready.systemd.fails_to_start.add(UNIT.format(R1))
    ready.systemd._start([UNIT.format(R1)], [])
    ready.systemd.unit(UNIT.format(R1))["polls"] = 5
    assert ready.refused("start", release=R1, process="web") == (1, "start_failed")
    assert [e["event"] for e in ready.journal()] == ["take"]


def test_a_begin_without_an_order_stands_for_the_next_try_of_the_run(ready: Lab) -> None:
    what = {"process": "web", "release": R1}
    request = Request("start", {"app": "jukebox", "run": "run-1", "token": 1, **what})
    record.change(ready.host, request, "begin", **what)
    ready.ok("start", **what)
    assert [e["event"] for e in ready.journal()] == ["take", "begin", "done"]
    ready.ok("stop", **what)
    ready.ok("start", **what)
    assert [e["event"] for e in ready.journal()][3:] == ["begin", "done", "begin", "done"]


def test_the_begin_of_another_run_is_not_ours(ready: Lab) -> None:
    what = {"process": "web", "release": R1}
    request = Request("start", {"app": "jukebox", "run": "run-0", "token": 1, **what})
    record.change(ready.host, request, "begin", **what)
    ready.ok("start", **what)
    assert [e["run"] for e in ready.journal()] == ["run-1", "run-0", "run-1", "run-1"]


def test_a_stop_that_nobody_waits_for(ready: Lab) -> None:
    what = {"process": "worker-plays", "release": R1}
    ready.ok("start", **what)
    ready.systemd.stops_after = 50
    expected = {"ok": True, "stopped": False, "finishing": True, "already": False}
    assert ready.ok("stop", wait=False, **what) == expected
    assert ready.ok("stop", wait=False, **what)["already"] is True
    assert ready.ok("stop", **what) == {"ok": True, "stopped": True, "already": True}
    assert [e["event"] for e in ready.journal() if e["verb"] == "stop"] == ["begin"]
    stops = [
        call for call in ready.systemd.calls if call[:3] == ["systemctl", "stop", "--no-block"]
    ]
    assert len(stops) == 1


def test_what_crashed_and_ends_by_itself_is_still_ordered_to_stop(ready: Lab) -> None:
    """systemd would start it again: its end is not the stop that was asked for."""
    what = {"process": "worker-plays", "release": R1}
    ready.ok("start", **what)
    unit = ready.systemd.unit(f"jukebox-worker-plays@{R1}.service")
    unit.update(active="deactivating", polls=3, job=0)
    assert ready.ok("stop", **what)["already"] is False


def test_one_bad_sample_is_enough_when_strict(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    answers = iter([200, 503])
    ready.systemd.answer = lambda path: next(answers, 200)
    fields: dict[str, Any] = {"release": R1, "process": "web", "passes": 9}
    status, answer = ready.call("check", strict=True, **fields)
    assert (status, answer["error"]["code"]) == (1, "unhealthy")
    assert len(answer["error"]["history"]) == 2
    answer = ready.ok("check", strict=True, **fields)
    assert (answer["pid"], answer["restarts"]) == (101, 0)


def test_healthy_for_a_while_is_every_sample_of_it(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    before = ready.clock.boottime
    answer = ready.ok("check", release=R1, process="web", interval=2, deadline=1, **{"for": 9})
    assert ready.clock.boottime - before == pytest.approx(9)
    assert [sample["ok"] for sample in answer["history"]] == [True] * 6
    answers = iter([200, 200, 503])
    ready.systemd.answer = lambda path: next(answers, 200)
    before = ready.clock.boottime
    refused = ready.refused("check", release=R1, process="web", interval=2, **{"for": 9})
    assert refused == (1, "unhealthy") and ready.clock.boottime - before == pytest.approx(4)


def test_another_main_process_is_a_restart(ready: Lab) -> None:
    ready.ok("start", release=R1, process="web")
    pid = ready.ok("check", release=R1, process="web", passes=1)["pid"]
    ready.ok("check", release=R1, process="web", passes=1, pid=pid)
    before = ready.clock.boottime
    status, answer = ready.call("check", release=R1, process="web", passes=1, pid=pid + 1)
    assert status == 1 and "restarted" in answer["error"]["message"]
    assert answer["error"]["pid"] == pid and ready.clock.boottime == before


def test_an_answer_must_contain_what_the_release_says_in_time(lab: Lab) -> None:
    health = {"path": "/readyz", "contains": "jukebox-web", "within": 0.5}
    lab.plant(R1, processes={"web": {**PROCESSES["web"], "health": health}})
    lab.plant(R2, processes={"web": {**PROCESSES["web"], "health": {**health, "contains": "x9"}}})
    lab.take()
    for release in (R1, R2):
        lab.ok("start", release=release, process="web")
    lab.ok("check", release=R1, process="web", passes=1)
    _, answer = lab.call("check", release=R2, process="web", strict=True)
    assert "does not contain 'x9'" in answer["error"]["message"]

    def slow(path: str) -> int:
        lab.clock.sleep(0.6)
        return 200

    lab.systemd.answer = slow
    _, answer = lab.call("check", release=R1, process="web", strict=True)
    assert "answered after 0.600 s" in answer["error"]["message"]
