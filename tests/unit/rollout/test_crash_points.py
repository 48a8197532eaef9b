"""The controller is killed at every single event of a run; then somebody resumes, or aborts.

Every time the fleet must end all-new or all-old, and no host may do a step of the run twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_fleet import Fault
from sagas import BEAT, LARGE, SMALL, Saga
from test_engine import NEW

FAILS = (Fault("check", "unhealthy", host="worker1", release=NEW),)
ON_THE_WAY = (Fault("check", "unhealthy", host="stream2", release=NEW, nth=2),)
RUNS = {
    "deploy": {"processes": SMALL},
    "deploy with a singleton": {"processes": BEAT},
    "first deploy": {"processes": BEAT, "old": None},
    "deploy to more hosts": {"processes": LARGE},
    "deploy that keeps the old ones warm": {"processes": SMALL, "rules": {"warm": 600}},
    "deploy that goes back": {"processes": SMALL, "faults": FAILS},
    "deploy that goes back after a switch": {"processes": SMALL, "faults": ON_THE_WAY},
    "deploy that leaves a host out": {
        "processes": LARGE,
        "faults": ON_THE_WAY,
        "rules": {"budget": "1"},
    },
    "rollback": {"processes": BEAT, "action": "rollback"},
}


def made(name: str, folder: Path) -> Saga:
    given = dict(RUNS[name])
    faults = tuple(
        Fault(f.verb, f.effect, f.host, f.release, f.nth) for f in given.pop("faults", ())
    )
    return Saga(folder, faults=faults, **given)


def finish(saga: Saga, back: bool) -> None:
    """Whoever comes next has healthy hosts; abort is refused once the run ended well somewhere."""
    saga.heal()
    if not saga.unfinished():
        return
    end = saga.take_over(back and not saga.ended_well_somewhere())
    saga.check(end)
    assert end.code in (0, 4), end.said
    assert not saga.unfinished(), end.said


@pytest.mark.parametrize("back", [False, True], ids=["resume", "abort"])
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_every_event(name: str, back: bool, tmp_path: Path) -> None:
    whole = made(name, tmp_path)
    saga_end = whole.first()
    whole.check(saga_end)
    for number in range(1, whole.calls + 1):
        saga = made(name, tmp_path)
        end = saga.first(cut=number)
        assert end.code is None, f"event {number} of {whole.calls}"
        try:
            finish(saga, back)
            uniform(saga)
            called_good_last(saga)
        except AssertionError as wrong:
            raise AssertionError(f"killed at event {number} of {whole.calls}: {wrong}") from wrong


def uniform(saga: Saga) -> None:
    """All-new or all-old, but for hosts in quarantine: of those every other host knows."""
    away = {name for host in saga.fleet.hosts.values() for name in host.quarantine}
    hosts = {name: host for name, host in saga.fleet.hosts.items() if name not in away}
    new = {name for name, host in hosts.items() if saga.is_new(host)}
    old = {name for name, host in hosts.items() if saga.is_old(host)}
    assert hosts.keys() in (new, old), f"new: {sorted(new)}; old: {sorted(old)}"


def called_good_last(saga: Saga) -> None:
    """What a host serves is the last that was called good there: from it leads the way back."""
    for host in saga.fleet.hosts.values():
        for process, live in host.live.items():
            if live in host.running[process]:
                assert host.good[-1] == live and host.staged[live] == "good", (host.name, host.good)
