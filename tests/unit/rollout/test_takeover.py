"""A run put together again from what its hosts know, and when that must not be gone on with."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sagas import SMALL, Saga
from test_engine import NEW, OLD

from backline.errors import BacklineError
from backline.rollout import takeover
from backline.transport.port import Unreachable


def cut(folder: Path, at: int) -> tuple[Saga, dict[str, dict[str, object]]]:
    saga = Saga(folder, SMALL)
    saga.first(cut=at)
    statuses = {name: saga.fleet._status(host, {}) for name, host in saga.fleet.hosts.items()}
    return saga, statuses


def test_the_plan_is_whole_when_every_host_knows_the_run(tmp_path: Path) -> None:
    saga, statuses = cut(tmp_path, 20)
    found = takeover.choose(statuses, "")
    assert found.plan == saga.plan and found.complete and not found.strangers
    assert takeover.missing(found, {}) == {}


def test_hosts_that_a_run_never_reached_count_as_missing(tmp_path: Path) -> None:
    """Killed while it took its leases: to go on with one host alone would mix the fleet."""
    _, statuses = cut(tmp_path, 3)
    found = takeover.choose(statuses, "")
    assert found.plan.hosts == ("stream1",)
    assert found.strangers == {"stream2": False, "worker1": False}
    assert set(takeover.missing(found, {})) == {"stream2", "worker1"}
    assert set(found.fences) == set(SMALL)


def test_a_host_that_does_not_answer_is_missing_only_if_it_is_of_the_run(tmp_path: Path) -> None:
    _, statuses = cut(tmp_path, 20)
    del statuses["worker1"]
    found = takeover.choose(statuses, "")
    errors = {name: Unreachable(name, "no answer") for name in ("worker1", "db1")}
    assert list(takeover.missing(found, errors)) == ["worker1"]


def test_what_ended_well_elsewhere_is_not_taken_back(tmp_path: Path) -> None:
    """One host has finished the run, or even taken another since: abort would mix the fleet."""
    _, statuses = cut(tmp_path, 20)
    statuses["stream1"]["run"]["ended"] = "new"  # type: ignore[index]
    with pytest.raises(BacklineError, match="ended well on stream1") as raised:
        takeover.refuse_back(takeover.choose(statuses, ""), statuses)
    assert raised.value.exit_code == 6
    statuses["stream1"] |= {
        "run": {**statuses["stream1"]["run"], "run": "run-2", "ended": "refused"}
    }  # type: ignore[dict-item]
    statuses["stream1"]["processes"]["web"]["live"] = NEW  # type: ignore[index]
    with pytest.raises(BacklineError, match="ended well on stream1"):
        takeover.refuse_back(takeover.choose(statuses, ""), statuses)


def test_which_run_is_meant() -> None:
    with pytest.raises(BacklineError, match="no run is unfinished"):
        takeover.choose({"a": {"run": None}, "b": {"run": {"run": "r", "ended": "new"}}}, "")
    two = {name: {"run": {"run": f"run-{name}", "ended": None}} for name in "ab"}
    with pytest.raises(BacklineError, match="2 runs are unfinished: run-a, run-b"):
        takeover.choose(two, "")
    with pytest.raises(BacklineError, match="no host knows an unfinished run run-c"):
        takeover.choose(two, "run-c")


@pytest.mark.parametrize("back", [False, True])
def test_with_a_host_away_the_run_goes_back_and_names_it(tmp_path: Path, back: bool) -> None:
    """Cut after stream1 was switched; worker1 is down when somebody takes over."""
    saga, _ = cut(tmp_path, 40)
    assert saga.fleet.hosts["stream1"].live["web"] == NEW
    saga.fleet.dead.add("worker1")
    end = saga.take_over(back)
    assert end.code == 3 and end.hosts == ("worker1",), end.said
    assert saga.fleet.hosts["stream1"].live["web"] == OLD


def test_a_controller_that_slept_while_it_took_leases_changes_nothing(tmp_path: Path) -> None:
    """It holds new leases on hosts that its successor never heard of, unless that fenced them."""
    for seed in range(1, 6):
        saga = Saga(tmp_path, SMALL, dice=random.Random(seed))
        others = lambda saga=saga: saga.take_over(back=True)  # noqa: E731
        end = saga.first(cut=4, asleep=others)
        assert end.code in (5, 6, None), end.said
        assert all(host.live.get("web", OLD) == OLD for host in saga.fleet.hosts.values())


def test_a_run_is_named_by_its_beginning(tmp_path: Path) -> None:
    _, statuses = cut(tmp_path, 20)
    run = takeover.choose(statuses, "").run
    assert takeover.choose(statuses, run[:3]).run == run
    with pytest.raises(BacklineError, match="no host knows an unfinished run other"):
        takeover.choose(statuses, "other")
    longer = {"run": {**statuses["worker1"]["run"], "run": f"{run}-2"}}  # type: ignore[dict-item]
    statuses["worker1"] |= longer
    assert takeover.choose(statuses, run).run == run
    with pytest.raises(BacklineError, match="2 runs are unfinished"):
        takeover.choose(statuses, run[:3])
