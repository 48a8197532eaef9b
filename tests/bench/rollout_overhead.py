"""The engine's own overhead: a whole deploy to hosts that answer at once. Run by `inv bench.rollout`.

Prints one JSON object: seconds to plan and to carry it out, and the peak of memory in MB.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backline.release.model import Archive, Release, ReleaseProcess
from backline.rollout import planner, strategy
from backline.rollout.cargo import Cargo
from backline.rollout.engine import Rollout
from backline.rollout.lease import Run
from backline.transport.clock import SystemClock
from backline.transport.pool import Threads
from backline.transport.port import Ended, HostError
from backline.transport.runlog import RunLog

OLD, NEW = "20260101T000000Z-0000001", "20260102T000000Z-0000002"


class AtOnce:
    """Hands that do everything in this thread."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, Callable[[], Any]]] = deque()

    def begin(self, ticket: int, host: str, work: Callable[[], Any], deadline: float) -> None:
        self.waiting.append((ticket, work))

    def wait(self, seconds: float) -> list[Ended]:
        if not self.waiting:
            time.sleep(min(seconds, 0.01))
        found = []
        while self.waiting:
            ticket, work = self.waiting.popleft()
            try:
                found.append(Ended(ticket, work(), None))
            except HostError as error:
                found.append(Ended(ticket, None, error))
        return found


class Instant:
    """A fleet (port.Fleet) without network that says yes to everything."""

    def __init__(self, count: int, threads: bool) -> None:
        self.threads, self.calls = threads, 0
        self.live = {f"stream{number}": OLD for number in range(1, count + 1)}

    def hands(self) -> Any:
        return Threads() if self.threads else AtOnce()

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> dict[str, Any]:
        self.calls += 1
        if verb == "switch":
            self.live[host] = fields["release"]
        return self.status(host) if verb == "status" else {"ok": True}

    def status(self, host: str) -> dict[str, Any]:
        live = self.live[host]
        web = {"release": live, "active": "active", "since": 0}
        return {
            "current": live,
            "fence": 7,
            "releases": [{"id": OLD, "version": "1", "state": "good", "tar": True, "migrated": []}],
            "processes": {"web": {"kind": "http", "live": live, "instances": [web]}},
        }

    def ship(self, host: str, files: Any, progress: Any) -> int:
        progress(host, 1000, 1000)
        return 1000


def release() -> Release:
    web = ReleaseProcess(kind="http", hosts="web", command=["x"], stop_timeout=30)
    return Release(
        id=NEW, app="jukebox", version="2", commit=None, dirty=False, built_at="", python="3.11",
        archive=Archive(tar_sha256="", tar_size=1, zst_sha256="", zst_size=1), files={},
        processes={"web": web}, migrations={"expand": [["migrate"]], "contract": []},
    )  # fmt: skip


def measure(count: int, threads: bool, folder: Path) -> dict[str, Any]:
    fleet = Instant(count, threads)
    statuses = {host: fleet.status(host) for host in fleet.live}
    archive = folder / "archive.tar.zst"
    archive.write_bytes(b"release")
    began = time.monotonic()
    rules = strategy.read({"soak": "0"})
    plan = planner.deploy(release(), {"web": list(fleet.live)}, statuses, rules)
    planned = time.monotonic() - began
    run = Run("bench", "jukebox", "ann@desk", "bench")
    with RunLog(folder / "run" / "journal.jsonl") as journal:
        Rollout(
            plan, fleet, run, SystemClock(), lambda event: journal.add(event.as_json(run.id, 0)),
            fences=dict.fromkeys(plan.hosts, 7), journal=journal,
            cargo=Cargo(plan, (), archive, {}),
        ).carry_out()  # fmt: skip
        events = journal.head["seq"]
    assert set(fleet.live.values()) == {NEW}
    return {
        "hosts": count,
        "hands": "threads" if threads else "at once",
        "plan_seconds": round(planned, 3),
        "seconds": round(time.monotonic() - began, 2),
        "mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "calls": fleet.calls,
        "events": events,
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--hosts", type=int, default=1000)
    words.add_argument("--threads", action="store_true")
    words.add_argument("--profile", action="store_true")
    given = words.parse_args()
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="backline-bench-") as folder:
        if given.profile:
            profile.enable()
        found = measure(given.hosts, given.threads, Path(folder))
        profile.disable()
    if given.profile:
        profile.create_stats()
        import pstats

        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
