"""A host that is down during a deploy serves nobody when it comes back, until it has caught up."""

from __future__ import annotations

import http.client
import time
import urllib.parse
from collections import Counter

from tests.live import Fleet
from tests.releases import build_kind
from tests.rollout import faults
from tests.rollout.runs import QUICK, changing, fab, live, users

AWAY = "stream2"


def answers(fleet: Fleet, seconds: float) -> Counter[str]:
    """Which releases answer, on new connections, for so long."""
    url, context = urllib.parse.urlsplit(fleet.base), fleet.listener().context
    found: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port or 443, timeout=10, context=context
        )
        connection.request("GET", "/version")
        answer = connection.getresponse()
        answer.read()
        found[answer.headers.get("X-Release") or str(answer.status)] += 1
        connection.close()
        time.sleep(0.05)
    return found


def test_who_was_away_catches_up_before_it_serves(fleet: Fleet) -> None:
    old = live(fleet)[AWAY]
    release = build_kind("line")
    with faults.frozen(fleet, AWAY):
        count = str(len(users(fleet)) - 1)
        words = ("deploy", "--release", release, *QUICK, "--quarantine", AWAY, "--yes", count)
        answer = fab(fleet, *words, expect=None)
        assert answer.code == 0, answer.err
    found = answers(fleet, 20.0)
    print(f"\nback by itself: {dict(found)}")
    assert set(found) == {release}, "the host that was away serves what it had before"
    assert live(fleet)[AWAY] == old
    rows = {row["host"]: row for row in fab(fleet, "status", "--json").lines}
    assert any("in quarantine" in trouble for trouble in rows[AWAY]["troubles"])

    fab(fleet, "deploy.catchup", *changing(fleet))
    assert live(fleet) == {host: {release} for host in users(fleet)}
    time.sleep(5)
    assert set(answers(fleet, 3.0)) == {release}
    # It serves again: without the other one there is nobody else.
    with faults.frozen(fleet, "stream1"):
        time.sleep(4)
        assert set(answers(fleet, 3.0)) == {release}
    time.sleep(4)
    fab(fleet, "rollback", *changing(fleet))
