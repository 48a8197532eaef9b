"""Hosts that freeze, lose their network, their disk's room, their time, or their identity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from backline.tasks.steps import ROOT
from tests.live import Fleet, run
from tests.releases import build_fat, build_kind
from tests.rollout import faults
from tests.rollout.faults import Event, Journal, begins
from tests.rollout.runs import QUICK, Fab, changing, fab, last_run, live

VICTIM = "stream2"
STEPS = ["ship", "stage", "start", "check", "switch", "soak"]
SOAK = ("--soak", "8")
SLOWER = 2.0


@contextmanager
def quiet(fleet: Fleet, step: str = "") -> Iterator[tuple[str, dict[str, set[str | None]]]]:
    """A new release, and what runs before; afterwards nothing is left unfinished.

    One whose shipping lasts long enough to be struck, where that is the step.
    """
    before = live(fleet)
    release = build_fat(46) if step == "ship" else build_kind("line")
    try:
        yield release, before
    finally:  # however many hosts still have something to take back; 1 if none has
        assert fab(fleet, "deploy.abort", expect=None).code in (0, 1)
    assert live(fleet) == before


def struck(
    fleet: Fleet, release: str, step: str, fault: AbstractContextManager[None]
) -> tuple[int, str]:
    """A deploy during which the fault strikes as soon as `step` begins on the victim."""
    journal = Journal(fleet)
    whole = ("--whole",) if step == "ship" else ()
    deploy = Fab(fleet, "deploy", "--release", release, *SOAK, *whole, *changing(fleet))
    fits = faults.soaks if step == "soak" else begins(step, VICTIM)
    if step == "soak":
        journal.wait(begins("stop", VICTIM))
    journal.wait(fits)
    with fault:
        answer = deploy.end(expect=None)
    return answer.code, answer.err


def others_waited(events: list[Event]) -> float:
    """The longest time between two signs of life of any other host while something was to be done
    there: from its `begin` to what ended it, in seconds."""
    begun: dict[tuple[str, str], float] = {}
    longest = 0.0
    for event in events:
        host = event.get("host")
        if not host or host == VICTIM:
            continue
        if event["event"] == "begin":
            begun[host, event["text"]] = event["time"]
        elif (host, event["event"]) in begun:
            longest = max(longest, event["time"] - begun.pop((host, event["event"])))
    return longest


@pytest.fixture(scope="module")
def usual(fleet: Fleet) -> float:
    """How long the slowest step of another host takes when nothing is wrong."""
    before = live(fleet)
    fab(fleet, "deploy", "--release", build_kind("line"), *QUICK, *changing(fleet))
    longest = others_waited(last_run(fleet).events)
    fab(fleet, "rollback", *changing(fleet))
    assert live(fleet) == before
    return longest


@pytest.mark.parametrize("kind", ["frozen", "cut"])
@pytest.mark.parametrize("step", STEPS)
def test_a_host_falls_silent(fleet: Fleet, usual: float, kind: str, step: str) -> None:
    """All others are old again at once; the silent one is named if it may serve the new release."""
    fault = {"frozen": faults.frozen, "cut": faults.cut}[kind](fleet, VICTIM)
    with quiet(fleet, step) as (release, before):
        code, said = struck(fleet, release, step, fault)
        events = last_run(fleet).events
        waited = others_waited(events)
        print(
            f"\n{kind} in {step}: exit {code}; other hosts' slowest step {waited:.1f} s, usual {usual:.1f}"
        )
        if step in ("ship", "stage"):
            assert code == 1 and "no process was touched" in said, said
        elif step in ("start", "check"):
            assert code == 4, said
        else:
            assert code == 3 and f"MIXED: {VICTIM} may run {release}" in said, said
        now = live(fleet)
        assert {h: r for h, r in now.items() if h != VICTIM} == {
            h: r for h, r in before.items() if h != VICTIM
        }
        assert waited <= usual + SLOWER


def test_a_full_disk_stops_the_deploy_before_anything_is_touched(fleet: Fleet) -> None:
    with quiet(fleet) as (release, _), faults.full_disk(fleet, VICTIM, spare=10):
        answer = fab(fleet, "deploy", "--release", release, *QUICK, *changing(fleet), expect=None)
        assert answer.code == 1, answer.err
        assert VICTIM in answer.err and "no process was touched" in answer.err
        left = fleet.on(VICTIM, "ls -A /srv/jukebox/releases | grep '^[.]' || true").out
        assert left.strip() == ""


def test_a_wrong_clock_is_refused(fleet: Fleet) -> None:
    """Ours is wrong here, which to us looks as if every host's were."""
    run_it = ["faketime", "-f", "+20s", "fab", "deploy", "--env", fleet.env]
    import subprocess

    from backline.tasks.steps import environment

    with quiet(fleet) as (release, before):
        done = subprocess.run(
            [*run_it, "--release", release, *changing(fleet)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "its clock is -20 s off ours" in done.stderr
        assert live(fleet) == before


def test_a_changed_host_key_is_refused(fleet: Fleet) -> None:
    pinned = ROOT / "inventory" / fleet.env / "known_hosts"
    good = pinned.read_text()
    lines = good.splitlines()
    port = next(h.ssh_port for h in fleet.topology if h.name == VICTIM)
    other = next(line for line in lines if f":{port} " not in line)
    with quiet(fleet) as (release, before):
        bad = [
            " ".join([*line.split()[:2], other.split()[2]]) if f":{port} " in line else line
            for line in lines
        ]
        pinned.write_text("\n".join(bad) + "\n")
        try:
            answer = fab(fleet, "deploy", "--release", release, *changing(fleet), expect=1)
        finally:
            pinned.write_text(good)
        assert VICTIM in answer.err and "wrong host key" in answer.err
        assert live(fleet) == before
    run("fab", "status", "--env", fleet.env)
