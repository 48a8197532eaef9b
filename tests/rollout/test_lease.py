"""Two controllers at once, and one that slept: the hosts let only one of them change anything."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from backline.tasks.steps import ROOT
from tests.live import Fleet
from tests.releases import build_kind
from tests.rollout.faults import Journal, begins
from tests.rollout.runs import QUICK, Fab, changing, fab, live, on_host, users


def test_a_second_deploy_is_refused_at_once(fleet: Fleet) -> None:
    before = live(fleet)
    release = build_kind("line")
    journal = Journal(fleet)
    first = Fab(fleet, "deploy", "--release", release, "--soak", "5", *changing(fleet))
    journal.wait(begins("switch", "stream1"))
    began = time.monotonic()
    second = fab(fleet, "deploy", "--release", release, *QUICK, *changing(fleet), expect=5)
    took = time.monotonic() - began
    print(f"\nrefused after {took:.1f} s: {second.err.splitlines()[-3:]}")
    assert "is working on this app" in second.err
    assert took < 15
    first.end(expect=0)
    fab(fleet, "rollback", *changing(fleet))
    assert live(fleet) == before


def another_machine(folder: Path) -> dict[str, str]:
    """What makes `fab` work as on another machine, of another operator: other records, no journal."""
    for name in ("inventory", "dist", ".lab", "ansible.cfg", "templates"):
        (folder / name).symlink_to(ROOT / name)
    return {"BACKLINE_ROOT": str(folder), "LOGNAME": "ann"}


def test_a_sleeper_changes_nothing_afterwards(fleet: Fleet, tmp_path: Path) -> None:
    """Stopped beyond its lease, taken over by another machine's operator, continued."""
    before = live(fleet)
    release = build_kind("line")
    journal = Journal(fleet)
    sleeper = Fab(fleet, "deploy", "--release", release, "--soak", "5", *changing(fleet))
    journal.wait(begins("switch", "stream1"))
    sleeper.signal(signal.SIGSTOP)
    run = journal.events()[0]["run"]
    began = time.monotonic()
    words = ("deploy.abort", *changing(fleet))
    taken = fab(fleet, *words, expect=None, **another_machine(tmp_path))
    print(f"\ntaken over after {time.monotonic() - began:.0f} s, exit {taken.code}")
    assert taken.code == 0, taken.err
    assert live(fleet) == before
    counts = {host: len(on_host(fleet, host, run)) for host in users(fleet)}
    sleeper.signal(signal.SIGCONT)
    ended = sleeper.end(expect=None, timeout=120)
    print(f"the sleeper: exit {ended.code}: {ended.err.splitlines()[-3:]}")
    assert ended.code in (3, 4, 6), ended.err  # it says what it finds: fenced out, or all old again
    assert live(fleet) == before
    assert {host: len(on_host(fleet, host, run)) for host in users(fleet)} == counts
