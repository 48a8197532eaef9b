"""What a run hears while it goes: the probe, operators at other terminals, the operator's own hooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_fleet import FakeFleet, small_fleet
from test_engine import GROUPS, NEW, OLD, PROCESSES, release, run, statuses

from backline.rollout import planner, strategy
from backline.transport.port import Sample

SOAK = {"soak": "30,10", "batches": "1,100%"}


class FakeProbe:
    """Twenty requests a second in the fleet's own time; `answer(release)` says how each ends."""

    def __init__(self, fleet: FakeFleet, **bad: Any) -> None:
        self.fleet, self.bad = fleet, bad
        self.last = fleet.clock.now

    def samples(self) -> list[Sample]:
        hosts = [host for host in self.fleet.hosts.values() if "web" in host.processes]
        count, now = int(20 * (self.fleet.clock.now - self.last)), self.fleet.clock.now
        self.last = now
        found = []
        for number in range(count):
            live = hosts[number % len(hosts)].live["web"]
            fields: dict[str, Any] = {"ms": 10.0, "status": 200, "error": None}
            if live == NEW:
                fields |= self.bad
            found.append(Sample(at=now, release=live, path="/", **fields))
        return found

    def trouble(self) -> str | None:
        return None


class Starved(FakeProbe):
    """The balancer sends nothing to the new release."""

    def samples(self) -> list[Sample]:
        return [sample for sample in super().samples() if sample.release == OLD]


def rolled(
    fleet: FakeFleet, tmp_path: Path, rules: Mapping[str, str] = SOAK, **options: Any
) -> tuple[int, str, list[Any]]:
    """A deploy with a strategy."""
    rules = strategy.read(rules)  # type: ignore[assignment]
    plan = planner.deploy(release(), GROUPS, statuses(fleet), rules)  # type: ignore[arg-type]
    return run(fleet, plan, tmp_path, **options)


def served(fleet: FakeFleet) -> set[str]:
    return {
        host.name
        for host in fleet.hosts.values()
        if any(step[0] == "switch" and step[2] == NEW for step in host.done)
    }


def live(fleet: FakeFleet) -> set[str]:
    return {entry for host in fleet.hosts.values() for entry in host.live.values()}


@pytest.mark.parametrize(
    "bad", [{"status": 500}, {"status": None, "error": "timeout"}, {"ms": 1500.0}], ids=str
)
def test_what_listeners_notice_takes_the_run_back(tmp_path: Path, bad: dict[str, Any]) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    code, said, _ = rolled(fleet, tmp_path, probe=FakeProbe(fleet, **bad))
    assert code == 4, said
    assert live(fleet) == {OLD} and served(fleet) == {"stream1"}
    assert {host.staged[NEW] for host in fleet.hosts.values()} == {"bad"}


def test_a_healthy_release_passes_the_probe(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    code, said, events = rolled(fleet, tmp_path, probe=FakeProbe(fleet))
    assert code == 0, said
    assert [event.data["well"] for event in events if event.kind == "verdict"] == [True] * 2


@pytest.mark.parametrize(("unsure", "expected"), [("go", 0), ("back", 4), ("pause", 4)])
def test_a_release_that_nobody_reaches_is_not_called_well(
    tmp_path: Path, unsure: str, expected: int
) -> None:
    """Paused for an hour without a word, it goes back."""
    fleet = small_fleet(OLD, PROCESSES)
    rules = {**SOAK, "unsure": unsure}
    code, said, _ = rolled(fleet, tmp_path, rules, probe=Starved(fleet))
    assert code == expected, said


def wanting(fleet: FakeFleet, want: str, after: str) -> None:
    """Lets an operator say something as soon as `after` was called for the first time."""

    def say(host: str, verb: str) -> None:
        entry = fleet.hosts[host].run
        if verb == after and entry is not None and entry.get("wanted") is None:
            for other in fleet.hosts.values():
                if other.run:
                    wanted = {"want": want, "actor": "ben@laptop", "at": fleet.clock.now + 1}
                    other.run["wanted"] = wanted

    fleet.before_call = say


def test_an_operator_elsewhere_aborts(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    wanting(fleet, "abort", "switch")
    code, said, _ = rolled(fleet, tmp_path)
    assert code == 4 and "ben@laptop" in said
    assert live(fleet) == {OLD} and served(fleet) == {"stream1"}


def test_promote_ends_the_soak(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    wanting(fleet, "promote", "switch")
    began = fleet.clock.now
    assert rolled(fleet, tmp_path, {"soak": "3000", "batches": "1,100%"})[0] == 0
    assert fleet.clock.now - began < 300
    assert live(fleet) == {NEW}


def test_a_pause_waits_for_a_word(tmp_path: Path) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    wanting(fleet, "pause", "switch")
    began = fleet.clock.now
    seen: dict[str, float] = {}

    def promote(host: str, verb: str) -> None:
        entry = fleet.hosts[host].run
        if verb == "lease" and entry and fleet.clock.now > began + 500:
            entry["wanted"] = {"want": "promote", "actor": "ben", "at": fleet.clock.now}
        if verb == "switch":
            seen[host] = fleet.clock.now - began

    pause = fleet.before_call
    fleet.before_call = lambda host, verb: (pause(host, verb), promote(host, verb))[0]
    assert rolled(fleet, tmp_path)[0] == 0
    assert seen["stream1"] < 100 and seen["stream2"] > 500


class FakeHooks:
    """Remembers what was run; `fails` at one phase."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.ran = fails, list[str]()

    def wants(self, phase: str) -> bool:
        return True

    def run(self, phase: str, facts: Mapping[str, str]) -> str:
        assert facts["release"] == NEW and facts["run"] == "run-1"
        self.ran.append(phase + facts.get("batch", ""))
        return "exit code 1: no" if phase == self.fails else ""


def test_hooks_run_before_and_after_each_phase(tmp_path: Path) -> None:
    fleet, hooks = small_fleet(OLD, PROCESSES), FakeHooks()
    assert rolled(fleet, tmp_path, hooks=hooks)[0] == 0
    assert hooks.ran == [
        *("before-stage", "after-stage", "before-migrate", "after-migrate"),
        *("before-batch1", "after-batch1", "before-batch2", "after-batch2"),
        *("before-finish", "after-finish"),
    ]


@pytest.mark.parametrize(
    ("phase", "code", "release"),
    [
        ("before-stage", 1, OLD),
        ("before-batch", 1, OLD),
        ("after-batch", 4, OLD),
        ("before-finish", 4, OLD),
        ("after-finish", 0, NEW),
    ],
)
def test_a_hook_that_says_no_stops_the_run(
    tmp_path: Path, phase: str, code: int, release: str
) -> None:
    fleet = small_fleet(OLD, PROCESSES)
    found, said, events = rolled(fleet, tmp_path, hooks=FakeHooks(phase))
    assert found == code, said
    assert live(fleet) == {release}
    everything = said + "".join(event.text for event in events)
    assert f"hook {phase}: exit code 1: no" in everything
