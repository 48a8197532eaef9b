"""Deploys back to back while listeners listen: nothing fails, and nobody has to wait much longer.

Until there were `$BACKLINE_DEPLOYS` (20) and `$BACKLINE_REQUESTS` (1,000,000), or `$BACKLINE_SECONDS`
(3600) are over; `$BACKLINE_RATE` requests a second (150).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.chaos.test_patch import song
from tests.live import Fleet
from tests.load_run import Run as Load
from tests.load_run import check, prepare
from tests.releases import build_kind
from tests.rollout.runs import changing, fab, live

__all__ = ["song"]
DEPLOYS = int(os.environ.get("BACKLINE_DEPLOYS", "20"))
REQUESTS = int(os.environ.get("BACKLINE_REQUESTS", "1000000"))
SECONDS = float(os.environ.get("BACKLINE_SECONDS", "3600"))
RATE = float(os.environ.get("BACKLINE_RATE", "150"))
SLOWER = 1.5
STEADY = 60.0
SOAK = ("--soak", "10,5")


def test_twenty_deploys_that_nobody_hears(
    fleet: Fleet, song: tuple[str, bytes], tmp_path: Path
) -> None:
    releases = [build_kind("line"), build_kind("line")]
    config = prepare(
        fleet, tmp_path, song=song, rate=RATE, streams=4, seconds=180.0, limit=4 * 3600.0
    )
    began = time.monotonic()
    with Load(config, tmp_path / "load.log") as load:
        time.sleep(10)
        load.mark("steady")
        time.sleep(STEADY)
        load.mark("deploys")
        deploys_began, number = time.monotonic(), 0
        while number < DEPLOYS or (
            (took := time.monotonic() - deploys_began) < SECONDS and took * RATE < REQUESTS
        ):
            if number >= len(releases):
                releases.append(build_kind("line"))
            fab(fleet, "deploy", "--release", releases[number], *SOAK, *changing(fleet))
            number += 1
            print(f"deploy {number}, {time.monotonic() - began:.0f} s", flush=True)
        load.mark("after")
        time.sleep(STEADY)
        result = load.stop(limit=300.0)
    windows = {window["name"]: window for window in result["windows"]}
    steady, deploys = windows["steady"], windows["deploys"]
    plays = check(fleet, tmp_path / "plays", limit=120.0)
    print(f"\n{number} deploys in {time.monotonic() - began:.0f} s: {result['requests']} requests,")
    print(
        f"{result['failed']} failed {result['failures']}; {plays.taken} plays, wrong: {not plays.right}"
    )
    print(f"steady {steady['latency_ms']}, during deploys {deploys['latency_ms']}")
    slower = deploys["latency_ms"]["p99"] / steady["latency_ms"]["p99"]
    # Told, not judged: here the controller, the listeners and the whole fleet share two processors.
    print(f"p99 during deploys: {slower:.2f} x steady; bar {SLOWER}")
    print(f"songs heard slowly: {result['streams']}")
    assert result["failed"] == 0, result["details"]
    assert result["streams"]["failed"] == 0 and result["streams"]["whole"], result["streams"]
    assert plays.right and plays.taken
    assert set(releases) <= set(result["releases"])
    assert live(fleet) == {host: {releases[-1]} for host in live(fleet)}
