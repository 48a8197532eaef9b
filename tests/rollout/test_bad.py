"""Releases that are bad in every known way: one host at most serves them, and all is old again."""

from __future__ import annotations

import pytest

from tests.live import Fleet
from tests.releases import build_kind
from tests.rollout.runs import changing, fab, last_run, live, on_host, users

SECONDS = 60.0


@pytest.mark.parametrize(
    "kind", ["errors", "hangs", "unready", "crashes", "leaks", "sours", "slow"]
)
def test_a_bad_release_reaches_one_host_at_most(fleet: Fleet, kind: str) -> None:
    before = live(fleet)
    release = build_kind(kind)
    words = ("--release", release, "--soak", "30,10", *changing(fleet))
    answer = fab(fleet, "deploy", *words, expect=4)
    run = last_run(fleet)
    served = [
        host
        for host in users(fleet)
        if any(
            entry["verb"] == "switch" and entry["release"] == release
            for entry in on_host(fleet, host, run.id)
        )
    ]
    assert len(served) <= 1, served
    assert live(fleet) == before
    first = min(event["time"] for event in run.events if _first_failure(event))
    took = run.of("ended")[0]["time"] - first
    print(f"\n{kind}: served by {served or 'nobody'}, all old {took:.1f} s after the first failure")
    assert took < SECONDS
    assert "rolled back" in answer.err


def _first_failure(event: dict[str, object]) -> bool:
    return event["event"] == "failed" or (
        event["event"] == "verdict" and event.get("well") is False
    )
