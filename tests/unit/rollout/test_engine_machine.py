"""Any faults, any order of calls, controllers killed or asleep anywhere, any number of takeovers.

`watched_fleet` looks after every change for what must never be; here the exit codes are held
against the fleet, and the fleet against all-new or all-old.

BACKLINE_DEEP=5000 tries that many stories instead of a few hundred.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fake_fleet import Fault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sagas import FLEETS, Ended, Saga
from test_crash_points import uniform
from test_engine import NEW, OLD

DEEP = int(os.environ.get("BACKLINE_DEEP") or 0)
VERBS = [
    "lease",
    "status",
    "note",
    "stage",
    "migrate",
    "start",
    "check",
    "switch",
    "stop",
    "rollback",
    "mark",
    "prune",
    "quarantine",
    "drain",
    "ship",
    "*",
]
EFFECTS = ["refused", "unreachable", "hang", "lost", "unhealthy", "start_failed", "busy", "no_base"]
HOSTS = ["stream1", "stream2", "worker1", "worker3"]

faults = st.builds(
    Fault,
    verb=st.sampled_from(VERBS),
    effect=st.sampled_from(EFFECTS),
    host=st.none() | st.sampled_from(HOSTS),
    release=st.sampled_from([None, None, OLD, NEW]),
    nth=st.integers(1, 6),
    forever=st.booleans(),
)


@dataclass(frozen=True)
class Act:
    """What one controller does, and what becomes of it: `cut` at that event (0: never), killed
    or asleep; before it hosts may be healed, or get new faults."""

    back: bool
    cut: int
    asleep: bool
    heal: bool
    faults: tuple[Fault, ...]


acts = st.builds(
    Act,
    back=st.booleans(),
    cut=st.just(0) | st.integers(1, 150),
    asleep=st.booleans(),
    heal=st.booleans(),
    faults=st.lists(faults, max_size=1).map(tuple),
)
rules = st.fixed_dictionaries(
    {
        "budget": st.sampled_from(["0", "1", "2"]),
        "batches": st.sampled_from(["1,50%,100%", "100%", "2,100%"]),
        "soak": st.sampled_from(["0", "5"]),
        "floor": st.sampled_from(["50%", "80%", "0"]),
        "warm": st.sampled_from(["0", "600"]),
    }
)
profile = settings(
    max_examples=DEEP or 400,
    derandomize=not DEEP,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def fresh(f: Fault) -> Fault:
    """A fault that did not strike yet."""
    return Fault(f.verb, f.effect, f.host, f.release, f.nth, f.forever)


class Story:
    """Plays the acts on a saga. A controller that sleeps wakes up when the next one has ended."""

    def __init__(self, saga: Saga, acts: list[Act]) -> None:
        self.saga, self.acts = saga, list(acts)
        self.fenced = False

    def play(self) -> None:
        self._act(first=True)
        while self.acts and self.saga.unfinished():
            self._act()
        self._end_well()

    def _act(self, first: bool = False) -> None:
        act = self.acts.pop(0)
        if act.heal:
            self.saga.heal()
        self.saga.fleet.faults += [fresh(fault) for fault in act.faults]
        slept = len(self.acts)
        asleep = self._others if act.asleep else None
        end = self._carry_out(act, asleep, first)
        if end.code is None or (asleep and len(self.acts) < slept):
            return
        self.saga.check(end)

    def _carry_out(self, act: Act, asleep: Callable[[], None] | None, first: bool) -> Ended:
        if first:
            return self.saga.first(act.cut, asleep)
        return self.saga.take_over(self._may_go_back(act), act.cut, asleep)

    def _may_go_back(self, act: Act) -> bool:
        return act.back and not self.saga.ended_well_somewhere()

    def _others(self) -> None:
        """What happens while a controller sleeps: its leases run out, and somebody takes over."""
        self.saga.fleet.clock.now += 61
        if self.acts and self.saga.unfinished():
            self._act()

    def _end_well(self) -> None:
        """Everything works again: whoever resumes now leaves a fleet that is all-new or all-old."""
        self.saga.heal()
        for _ in range(3):
            if not self.saga.unfinished():
                break
            end = self.saga.take_over(back=False)
            self.saga.check(end)
            if self.saga.action == "rollback" and end.code == 3:
                # A host that the rollback never reached, and that the others went past.
                assert "knows nothing of run" in end.said and "fab rollback --to" in end.said
                return
        assert not self.saga.unfinished(), "a fault-free resume does not end the run"
        uniform(self.saga)


@profile
@given(
    seed=st.integers(0, 1000),
    fleet=st.sampled_from(sorted(FLEETS)),
    action=st.sampled_from(["deploy", "deploy", "deploy", "rollback"]),
    first=st.booleans(),
    rules=rules,
    faults=st.lists(faults, max_size=3),
    acts=st.lists(acts, min_size=1, max_size=4),
)
def test_any_story_ends_all_new_or_all_old(seed, fleet, action, first, rules, faults, acts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        saga = Saga(
            Path(folder),
            FLEETS[fleet],
            action=action,
            old=None if first and action == "deploy" else OLD,
            rules=rules,
            dice=random.Random(seed) if seed else None,
            faults=tuple(fresh(fault) for fault in faults),
        )
        Story(saga, acts).play()
