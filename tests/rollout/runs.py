"""Runs as the tests start them, and as journals tell of them: here and on the hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

from backline import places
from backline.tasks.steps import ROOT, environment
from backline.transport import runlog
from tests.live import BIN, Answer, Fleet

QUICK = ("--soak", "0")
APP = "jukebox"
KILLED = -signal.SIGKILL


def users(fleet: Fleet) -> list[str]:
    """The hosts that run the application."""
    return sorted({*fleet.hosts("streaming"), *fleet.hosts("worker")})


STARTED: list[Fab] = []
"""Every `fab` of these tests: none, stopped in its tracks or not, outlives them (conftest.py)."""


class Fab:
    """`fab` under way: `Fab(fleet, "deploy", "--release", R)`; `variables` are added to its own."""

    def __init__(self, fleet: Fleet, *words: str, variables: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [str(BIN / "fab"), words[0], "--env", fleet.env, *words[1:]],
            cwd=ROOT,
            env=environment({"COLUMNS": "200", **(variables or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        STARTED.append(self)

    def end(self, expect: int | None = 0, timeout: float = 400.0) -> Answer:
        """Waits for its end."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise
        answer = Answer(self.process.returncode, out, err)
        if expect is not None:
            assert answer.code == expect, f"{self.process.args}\n{out[-3000:]}\n{err[-4000:]}"
        return answer

    def signal(self, number: int) -> None:
        """Sends a signal to it, and to all that it started."""
        os.killpg(self.process.pid, number)


def fab(fleet: Fleet, *words: str, expect: int | None = 0, **variables: str) -> Answer:
    """Runs `fab` to its end; `variables` are added to its environment."""
    return Fab(fleet, *words, variables=variables).end(expect)


def changing(fleet: Fleet) -> tuple[str, str]:
    """The answer to "how many hosts"."""
    return ("--yes", str(len(users(fleet))))


def live(fleet: Fleet) -> dict[str, set[str | None]]:
    """What each host's processes run: {host: {release}}."""
    rows = fab(fleet, "status", "--json", expect=None).lines
    return {
        row["host"]: {process["live"] for process in row["processes"].values()}
        for row in rows
        if row.get("app") == APP
    }


@dataclass(frozen=True)
class Run:
    """A run's journal on the controller."""

    id: str
    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [event for event in self.events if event.get("event") == kind]


def last_run(fleet: Fleet) -> Run:
    """The run that wrote last."""
    folder = max(
        places.runs(fleet.env).iterdir(), key=lambda p: (p / "journal.jsonl").stat().st_mtime
    )
    verdict = runlog.read(folder / "journal.jsonl")
    assert verdict.problem is None, verdict.problem
    return Run(folder.name, [dict(event) for event in verdict.entries])


def on_host(fleet: Fleet, host: str, run: str) -> list[dict[str, Any]]:
    """What a host's own journal says of a run."""
    text = fleet.on(host, f"sudo cat /var/lib/backline/{APP}/journal.jsonl").out
    return [entry for entry in map(json.loads, text.splitlines()) if entry.get("run") == run]


def done_twice(entries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Steps of one run that a host began, or completed, more than once.

    One that failed (because its controller was fenced out in the middle, say) left nothing behind
    and may be begun again.
    """
    seen: set[tuple[str, ...]] = set()
    twice = []
    for entry in entries:
        if entry["verb"] not in ("stage", "start", "switch", "migrate"):
            continue
        step = tuple(str(entry.get(name)) for name in ("verb", "process", "release", "phase"))
        if entry["event"] == "failed":
            seen.discard((*step, "begin"))
            continue
        key = (*step, str(entry["event"]))
        if key in seen:
            twice.append(key)
        seen.add(key)
    return twice
