"""Small records of runs, written as a controller writes them: a journal each, and the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backline.transport.runlog import RunLog

OLD, NEW = "20260101T000000Z-0000001", "20260102T000000Z-0000002"
START = 1_800_000_000.0
HOSTS = ("stream1", "stream2")
Event = dict[str, Any]


def plan(hosts: Sequence[str] = HOSTS, action: str = "deploy", live: str = OLD) -> dict[str, Any]:
    """A plan of one batch for each host, as `begun` has it."""
    steps = [
        {
            "host": h,
            "process": "web",
            "kind": "http",
            "live": live,
            "stop_timeout": 30,
        }
        for h in hosts
    ]
    batches = [[host] for host in hosts]
    shared = {"app": "jukebox", "release": NEW, "version": "2.0", "action": action}
    return {**shared, "steps": steps, "batches": batches, "shipments": [], "migrate_on": None}


def begun(at: float = 0.0, how: str = "deploy", message: str = "why", **more: Any) -> Event:
    return {
        "event": "begun",
        "time": START + at,
        "release": NEW,
        "text": message,
        "how": how,
        "digest": "abc123",
        "actor": "ann@desk",
        "plan": plan(),
        **more,
    }


def lease(at: float = 0.5, token: int = 1) -> Event:
    return {"event": "lease", "time": START + at, "text": f"token {token} on 2 hosts"}


def turn(host: str, at: float, fails: str = "") -> list[Event]:
    """One host: shipped, started, checked, switched; or its check fails."""
    step = {"host": host, "process": "web", "release": NEW}
    found: list[Event] = [
        {"event": "ship", "time": START + at, "host": host, "seconds": 0.2, "bytes": 5000},
        {"event": "begin", "time": START + at, **step, "text": "start"},
        {"event": "start", "time": START + at + 1, **step, "seconds": 1.0},
        {"event": "begin", "time": START + at + 1, **step, "text": "check"},
    ]
    if fails:
        failed = {"time": START + at + 2, **step, "seconds": 1.0, "error": "unhealthy"}
        return [*found, {"event": "failed", **failed, "text": f"check: {fails}"}]
    return [
        *found,
        {"event": "check", "time": START + at + 2, **step, "seconds": 1.0},
        {"event": "switch", "time": START + at + 2.5, **step, "seconds": 0.1},
    ]


def batch(number: int, at: float, hosts: Sequence[str]) -> Event:
    data = {"phase": "batch", "number": number, "of": 2, "hosts": list(hosts)}
    return {"event": "phase", "time": START + at, **data}


def verdict(number: int, at: float, well: bool | None = True, text: str = "") -> Event:
    numbers = {
        "requests": 40,
        "failed": 0,
        "median_ms": 9.0,
        "usual_median_ms": 8.0,
        "p99_ms": 30.0,
    }
    data = {"batch": number, "well": well, **numbers}
    return {"event": "verdict", "time": START + at, "text": text, **data}


def ended(at: float = 20.0, code: int = 0, **more: Any) -> Event:
    return {"event": "ended", "time": START + at, "release": NEW, "exit_code": code, **more}


def good_run() -> list[Event]:
    return [
        *(begun(), lease()),
        *(batch(1, 1, ["stream1"]), *turn("stream1", 1), verdict(1, 6)),
        *(batch(2, 7, ["stream2"]), *turn("stream2", 7), verdict(2, 12)),
        {"event": "phase", "time": START + 13, "phase": "finish", "hosts": list(HOSTS)},
        *({"event": "done", "time": START + 14, "text": "2 hosts"}, ended(15)),
    ]


def bad_run(why: str = "no answer") -> list[Event]:
    return [
        *(begun(), lease(), batch(1, 1, ["stream1"]), *turn("stream1", 1, fails=why)),
        {"event": "warning", "time": START + 4, "host": "stream1", "text": why},
        {
            "event": "phase",
            "time": START + 4,
            "phase": "retreat",
            "hosts": list(HOSTS),
            "text": why,
        },
        ended(
            6, 4, text=f"stream1: {why}", state="rolled back: all hosts run it", hosts=["stream1"]
        ),
    ]


def record(root: Path, run: str, sittings: Sequence[Sequence[Event]], end: bool = True) -> Path:
    """Writes sittings of a run as rolling.py does; without `end`, the last one was cut off."""
    journal = root / "runs" / run / "journal.jsonl"
    for number, events in enumerate(sittings, start=1):
        with RunLog(journal) as log:
            for event in events:
                log.add({"schema_version": 1, "run": run, **event})
            head = log.head
        first = events[0]
        keys = ("actor", "how", "release")
        what: dict[str, Any] = {key: first[key] for key in keys}
        what |= {"message": first["text"], "plan": first["digest"], "hosts": 2}
        entries: list[Mapping[str, Any]] = [{"event": "begin", "time": first["time"], **what}]
        if end or number < len(sittings):
            last = events[-1]["time"] + 0.1
            entries.append({"event": "end", "time": last, "journal": head})
        with RunLog(root / "audit.jsonl") as log:
            for entry in entries:
                log.add({**entry, "run": run})
    return journal


def samples(
    path: Path, seconds: int = 15, switch: float = 8.0, failed: Sequence[float] = ()
) -> None:
    """Ten requests a second; the new release answers from `switch` on, those at `failed` get a 502."""
    with path.open("w") as file:
        for number in range(seconds * 10):
            at = number / 10
            bad = any(abs(at - moment) < 0.04 for moment in failed)
            entry = {
                "at": START + at,
                "ms": 12.0 if at < switch else 9.0,
                "path": "/",
                "status": 502 if bad else 200,
                "error": None,
                "release": None if bad else NEW if at >= switch else OLD,
            }
            file.write(json.dumps(entry) + "\n")
