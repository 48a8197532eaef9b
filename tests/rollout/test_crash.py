"""The controller killed (kill -9) at every event of its journal: whoever comes next ends it.

`$BACKLINE_EVENTS` says for how many of them, from the first on; all by default.
"""

from __future__ import annotations

import os
from pathlib import Path

from backline.transport.runlog import CRASH
from tests.live import Fleet
from tests.load_run import Run as Load
from tests.load_run import check, prepare
from tests.releases import build_kind
from tests.rollout.runs import (
    KILLED,
    QUICK,
    changing,
    done_twice,
    fab,
    last_run,
    live,
    on_host,
    users,
)

EVENTS = int(os.environ.get("BACKLINE_EVENTS", "1000"))
"""More than any journal has."""


def test_whoever_comes_next_ends_it(fleet: Fleet, tmp_path: Path) -> None:
    """Resumed after odd events, taken back after even ones; listeners hear nothing of it."""
    config = prepare(fleet, tmp_path, rate=30.0, streams=2, seconds=60.0, limit=7200.0)
    killed = 0
    with Load(config, tmp_path / "load.log") as load:
        for number in range(1, EVENTS + 1):
            before = live(fleet)
            release = build_kind("line")
            words = ("deploy", "--release", release, *QUICK, *changing(fleet))
            answer = fab(fleet, *words, expect=None, **{CRASH: str(number)})
            if answer.code in (0, 4):  # it ended by itself: that were all
                break
            assert answer.code == KILLED, answer.err
            killed += 1
            _end_it(fleet, number, release, before)
        result = load.stop(limit=200.0)
    plays = check(fleet, tmp_path / "plays")
    print(f"\nkilled at {killed} events; {result['requests']} requests, {result['failed']} failed")
    assert killed >= min(EVENTS, 30)
    assert result["failed"] == 0, result["failures"]
    assert plays.right and plays.taken, plays
    assert result["streams"]["whole"] and not result["streams"]["failed"], result["streams"]


def _end_it(fleet: Fleet, number: int, release: str, before: dict[str, set[str | None]]) -> None:
    run = last_run(fleet).id
    forward = bool(number % 2)
    verb = "deploy.resume" if forward else "deploy.abort"
    answer = fab(fleet, verb, *changing(fleet), expect=None)
    what = f"event {number}, {verb}: exit {answer.code}\n{answer.err[-2000:]}"
    after = live(fleet)
    new = {host: {release} for host in after}
    if "no run is unfinished" in answer.err:  # killed before its lease, or after its end
        assert after in (before, new), what
    elif "was on its way back" in answer.err:
        assert answer.code in (0, 4) and after == before, what
    elif forward:
        assert answer.code == 0, what
        assert after == new, what
    else:
        assert answer.code == 0, what
        assert after == before, what
    for host in users(fleet):
        assert done_twice(on_host(fleet, host, run)) == [], f"{host}: {what}"
    print(f"event {number:3}: {verb} → exit {answer.code}", flush=True)
