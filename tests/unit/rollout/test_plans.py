"""What a run will do, from data: plans.yml; and that a plan survives files, hosts and hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_fleet import KINDS, FakeFleet, FakeHost
from test_engine import NEW, OLD, release

from backline.errors import BacklineError
from backline.release.model import Archive, ReleaseProcess
from backline.rollout import choices, planner, strategy
from backline.rollout import plan as plans
from backline.rollout.plan import Plan

CASES = yaml.safe_load((Path(__file__).parent / "plans.yml").read_text())
NAMES = {"OLD": OLD, "NEW": NEW}


def fleet_of(case: dict[str, Any]) -> FakeFleet:
    hosts = []
    for process, count in case["fleet"].items():
        for number in range(1, count + 1):
            host = FakeHost(f"{process}{number}", (process,))
            host.live, host.running = {process: OLD}, {process: {OLD}}
            host.staged[OLD] = "good"
            if case.get("has"):
                host.staged[NAMES[case["has"]]] = "staged"
            tar = case.get("tars", {}).get(host.name)
            if tar:
                host.tars.add(NAMES[tar])
            hosts.append(host)
    return FakeFleet(hosts)


def plan_of(case: dict[str, Any], **options: Any) -> Plan:
    fleet = fleet_of(case)
    groups = {p: [h for h in fleet.hosts if h.startswith(p)] for p in case["fleet"]}
    processes = {
        name: ReleaseProcess(kind=KINDS[name], hosts=name, command=["x"], stop_timeout=9)
        for name in case["fleet"]
    }
    archive = Archive(tar_sha256="", tar_size=2000, zst_sha256="", zst_size=1000)
    wanted = release().model_copy(update={"processes": processes, "archive": archive})
    statuses = {name: fleet._status(host, {}) for name, host in fleet.hosts.items()}
    patches = {NAMES[base]: size for base, size in case.get("patches", {}).items()}
    return planner.deploy(
        wanted, groups, statuses, strategy.read(case.get("rules", {})),
        zones=case.get("zones"), patches=patches, **options,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_plan(case: dict[str, Any]) -> None:
    if "raises" in case:
        with pytest.raises(BacklineError, match=case["raises"]):
            plan_of(case)
        return
    plan = plan_of(case)
    for found, wanted in zip(plan.batches, case.get("batches", plan.batches), strict=True):
        assert (len(found) == wanted) if isinstance(wanted, int) else (list(found) == list(wanted))
    assert [host for batch in plan.batches for host in batch].sort() == [*plan.hosts].sort()
    if "shipments" in case:
        assert {s.host: [s.base, s.size] for s in plan.shipments} == {
            host: [NAMES.get(base), size] for host, (base, size) in case["shipments"].items()
        }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_plan_comes_back_whole(case: dict[str, Any]) -> None:
    """From a file, and from what its hosts keep of it, in any order: the same plan, the same name."""
    if "raises" in case:
        return
    plan, again = plan_of(case), plan_of(case)
    assert plan == again and plan.digest == again.digest
    assert plans.from_data(json.loads(json.dumps(plan.as_data()))) == plan
    hosts = plan.hosts if len(plan.hosts) < 100 else plan.hosts[::-1]
    parts = {host: json.loads(json.dumps(plan.part(host))) for host in reversed(hosts)}
    found = plans.from_parts(parts)
    assert found.digest == plan.digest == parts[hosts[0]]["digest"]
    assert (found.steps, found.batches, found.strategy) == (plan.steps, plan.batches, plan.strategy)


def test_a_missing_part_shows() -> None:
    plan = plan_of({"fleet": {"web": 6}})
    parts = {host: plan.part(host) for host in plan.hosts if host != "web3"}
    found = plans.from_parts(parts)
    assert found.digest != plan.digest
    assert "web3" not in found.hosts and len(found.batches) == len(plan.batches)


def test_what_a_host_keeps_of_a_plan_of_a_thousand_fits_its_limit() -> None:
    from backline.hostctl.runs import PLAN_LIMIT

    plan = plan_of({"fleet": {"web": 1000}})
    assert len(json.dumps(plan.part("web500"))) < PLAN_LIMIT / 8


@pytest.mark.parametrize(
    "change",
    [
        {"rules": {"soak": "1"}},
        {"rules": {"budget": "1"}},
        {"fleet": {"web": 4}},
        {"fleet": {"web": 3, "plays": 1}},
        {"has": "NEW"},
    ],
)
def test_another_plan_has_another_name(change: dict[str, Any]) -> None:
    case = {"fleet": {"web": 3}}
    assert plan_of(case).digest != plan_of({**case, **change}).digest


def test_how_large_a_patch_is_does_not_name_a_plan() -> None:
    case: dict[str, Any] = {"fleet": {"web": 1}, "tars": {"web1": "OLD"}}
    assert (
        plan_of({**case, "patches": {"OLD": 10}}).digest
        == plan_of({**case, "patches": {"OLD": 11}}).digest
        != plan_of(case).digest
    )


def test_hosts_in_quarantine_are_named_in_the_plan_and_count_for_nothing() -> None:
    plan = plan_of({"fleet": {"web": 3}}, left_out=["web9"])
    assert plan.left_out == ("web9",) and "web9" not in plan.hosts
    assert plan.digest != plan_of({"fleet": {"web": 3}}).digest


def test_the_expand_migration_runs_on_the_first_host_if_there_is_one() -> None:
    assert plan_of({"fleet": {"plays": 1, "web": 2}}).migrate_on == "web1"


def test_a_release_older_than_a_contracted_schema_is_refused() -> None:
    statuses = {"h1": {"contracted": []}, "h2": {"contracted": [NEW]}}
    with pytest.raises(BacklineError, match=f"contract migrations of {NEW} have run") as raised:
        choices.guard_schema(statuses, OLD)
    assert raised.value.exit_code == 6
    choices.guard_schema(statuses, OLD, accept=True)
    choices.guard_schema(statuses, NEW)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"batches": "1,,2"}, "empty part"),
        ({"batches": "0"}, "a batch of nobody"),
        ({"batches": "50%,10%"}, "each goes further"),
        ({"batches": "120%"}, "up to 100%"),
        ({"batches": "some"}, "a number of hosts"),
        ({"by": "rack"}, "one of zone"),
        ({"budget": "-1"}, "a number of hosts"),
        ({"soak": "30,x"}, "could not convert"),
        ({"soak": "nan"}, "seconds, from 0 to 86400"),
        ({"soak": "-1"}, "seconds, from 0 to 86400"),
        ({"floor": "101%"}, "up to 100%"),
        ({"passes": 0}, "a number from 1 to 100"),
        ({"unsure": "maybe"}, "one of go, pause, back"),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(BacklineError) as raised:
        strategy.read(rules)
    assert says in raised.value.message and next(iter(rules)) in raised.value.message
    assert raised.value.hint.startswith("for example:")


def test_rules_of_one_run_lie_over_those_of_the_environment() -> None:
    base = strategy.read({"batches": ["1", "100%"], "soak": 5, "budget": 1})
    found = strategy.read({"budget": "10%", "soak": "", "floor": None}, base)
    assert (found.batches, found.soak, found.budget) == (("1", "100%"), (5.0,), "10%")
    assert found.allowed_failures(25) == 2
    assert strategy.read(found.as_data()) == found
