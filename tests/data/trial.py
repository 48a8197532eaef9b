"""One fault, while applications write and watchers ask each host: what was recorded, and the verdict."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backline.tasks.steps import ROOT
from tests.data import cluster, judge
from tests.data.remote import Remote, as_the_app, beside, wait_until
from tests.live import Fleet

RESULTS = Path(os.environ.get("BACKLINE_DATA_RESULTS", ROOT / ".cache" / "test-data"))
STARTED = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
CLIENTS, PACE_S = 4, 0.1
WARM_ROWS = 40
FRESH_ROWS = 5
JOBS_QUEUE = "fault-jobs"


def recording(kind: str, name: str) -> Path:
    """A new folder for the logs of one trial."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    folder = RESULTS / STARTED / f"{int(time.time())}-{slug}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"kind": kind, "name": name}) + "\n")
    return folder


@dataclass(frozen=True)
class Verdict:
    """What the logs of one trial of the database say."""

    name: str
    clients: judge.Clients
    probes: int
    lost: list[str]
    two_writable: list[str]
    blind: list[str]

    def __str__(self) -> str:
        who = self.clients
        gave_up = sum(who.gave_up.values())
        return (
            f"{self.name}: {len(who.acknowledged)} rows and {self.probes} probes acknowledged, "
            f"{len(self.lost)} lost; two writable: {len(self.two_writable)} times; "
            f"a client waited {who.pause:.1f} s at most, all of them {who.gap:.1f} s; "
            f"{who.errors} errors, {gave_up} rows given up"
        )

    def safe(self) -> None:
        """Nothing that was acknowledged is lost, and never did two hosts take writes."""
        assert not self.blind, self.blind
        assert self.clients.acknowledged, f"{self.name}: nobody wrote"
        assert not self.lost, f"{self.name}: LOST {len(self.lost)}: {self.lost[:10]}"
        assert not self.two_writable, f"{self.name}: TWO WRITABLE: {self.two_writable[:10]}"

    def silent(self) -> None:
        """No client saw an error, not even one that does not try again."""
        assert not self.clients.errors, f"{self.name}: {dict(self.clients.why)}"

    def retried(self) -> None:
        """Clients that try once more saw no error."""
        assert not self.clients.gave_up.get(1, 0), f"{self.name}: {dict(self.clients.why)}"


def read(folder: Path) -> Verdict:
    """The verdict on a recording, from its files alone."""
    about = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    writers = [list(judge.entries(path)) for path in sorted(folder.glob("writer-*.jsonl"))]
    watchers = [
        sample
        for path in sorted([*folder.glob("beside-*.jsonl"), *folder.glob("network-*.jsonl")])
        for sample in judge.samples(judge.entries(path))
    ]
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    who = judge.clients(writers)
    probes = [sample.id for sample in watchers if sample.yes]
    return Verdict(
        about["name"],
        who,
        len(probes),
        judge.lost([*who.acknowledged, *probes], found["rows"]),
        judge.two_writable(watchers),
        judge.blind(watchers, found["hosts"]),
    )


class Trial:
    """Writers and watchers around a fault. Use it as a context manager; `verdict` is there afterwards.

    `retries`: for each writing host, how often its clients try again. The one on a streaming host does not
    by default, the one on a worker does once. `first`: the members that there are at the beginning, if the
    cluster does not have all of them yet.
    """

    def __init__(
        self,
        fleet: Fleet,
        name: str,
        retries: Sequence[int] = (0, 1),
        first: Sequence[str] = (),
    ) -> None:
        self.fleet, self.name, self.first = fleet, name, list(first)
        self.folder = recording("database", name)
        self.run = uuid.uuid4().hex[:8]
        hosts = [fleet.hosts("streaming")[0], fleet.hosts("worker")[0]]
        self.writers = [
            Remote(
                as_the_app(fleet, host, "writer", self.run, str(CLIENTS), str(again), str(PACE_S)),
                self.folder / f"writer-{host}.jsonl",
            )
            for host, again in zip(hosts, retries, strict=True)
        ]
        self.watchers = [
            Remote(
                beside(fleet, host, "watcher", self.run, host),
                self.folder / f"beside-{host}.jsonl",
                again=True,
            )
            for host in fleet.hosts("database")
        ]
        far = fleet.hosts("streaming")[-1]
        targets = [f"{host}={fleet.address(host)}" for host in fleet.hosts("database")]
        self.watchers.append(
            Remote(
                as_the_app(fleet, far, "watcher", self.run, *targets),
                self.folder / f"network-{far}.jsonl",
                again=True,
            )
        )
        self._verdict: Verdict | None = None

    def __enter__(self) -> Trial:
        if not self.first:
            cluster.settled(self.fleet)
        try:
            for remote in [*self.watchers, *self.writers]:
                remote.start()
            wait_until("every writer writes", 60, lambda: all(map(self._warm, self.writers)))
            wait_until("every watcher watches", 60, self._watched)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                # Who led before is back: whatever it holds that nobody else has shows now.
                cluster.settled(self.fleet)
                time.sleep(1)
        finally:
            self._stop()
        if kind is None:
            hosts = self.fleet.hosts("database")
            found = {"rows": cluster.present(self.fleet, self.run), "hosts": hosts}
            (self.folder / "found.json").write_text(json.dumps(found) + "\n")
            self._verdict = read(self.folder)
            print(f"\n{self._verdict}", flush=True)

    @property
    def verdict(self) -> Verdict:
        assert self._verdict is not None, "the trial has not ended"
        return self._verdict

    def back(self, seconds: float) -> None:
        """Waits until every client writes again, or writes still: rows of its own, asked for from now on."""
        now = time.monotonic()

        def fresh() -> bool:
            count: dict[str, int] = {}
            for writer in self.writers:
                for entry in writer.entries():
                    if entry["what"] == "ack" and entry["asked"] > now:
                        count[entry["client"]] = count.get(entry["client"], 0) + 1
            full = [client for client, rows in count.items() if rows >= FRESH_ROWS]
            return len(full) == CLIENTS * len(self.writers)

        wait_until("every client writes", seconds, fresh, every=0.5)

    def writable(self, since: float) -> set[str]:
        """The hosts that acknowledged a write that was asked for after `since`."""
        return {
            sample.host
            for watcher in self.watchers
            for sample in judge.samples(watcher.entries())
            if sample.yes and sample.asked > since
        }

    def _warm(self, writer: Remote) -> bool:
        return len([e for e in writer.entries() if e["what"] == "ack"]) >= WARM_ROWS

    def _watched(self) -> bool:
        found = [s for watcher in self.watchers for s in judge.samples(watcher.entries())]
        return not judge.blind(found, self.first or self.fleet.hosts("database"))

    def _stop(self) -> None:
        for remote in self.writers:
            remote.end()
        for remote in [*self.writers, *self.watchers]:
            remote.stop()


class Jobs:
    """Publishers with confirms and consumers of one quorum queue, around a fault of the brokers."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name = fleet, name
        self.folder = recording("broker", name)
        self.run = uuid.uuid4().hex[:8]
        hosts = [fleet.hosts("streaming")[0], fleet.hosts("worker")[0]]
        self.remotes = [
            Remote(
                as_the_app(fleet, host, "jobs", self.run, JOBS_QUEUE),
                self.folder / f"jobs-{host}.jsonl",
            )
            for host in hosts
        ]
        self._verdict: judge.Jobs | None = None

    def __enter__(self) -> Jobs:
        try:
            for remote in self.remotes:
                remote.start()
            wait_until("everybody publishes and does jobs", 60, lambda: self.fresh(0.0, 20))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop()
        if kind is None:
            self._verdict = read_jobs(self.folder)
            found = self._verdict
            print(
                f"\n{self.name}: {found.confirmed} jobs confirmed, {len(found.lost)} lost, "
                f"{found.refused} errors, {found.gave_up} given up; "
                f"a consumer waited {found.gap:.1f} s at most",
                flush=True,
            )

    @property
    def verdict(self) -> judge.Jobs:
        assert self._verdict is not None, "the trial has not ended"
        return self._verdict

    def fresh(self, since: float, number: int = FRESH_ROWS) -> bool:
        """Whether everybody has had so many jobs confirmed, and done so many, since then."""
        for remote in self.remotes:
            told = [e["what"] for e in remote.entries() if e.get("told", 0.0) > since]
            if min(told.count("confirmed"), told.count("done")) < number:
                return False
        return True

    def back(self, seconds: float) -> None:
        """Waits until all of them publish and consume again."""
        now = time.monotonic()
        wait_until("jobs are done again", seconds, lambda: self.fresh(now), every=0.5)

    def _stop(self) -> None:
        for remote in self.remotes:
            remote.end()
        for remote in self.remotes:
            remote.stop(90.0)


def read_jobs(folder: Path) -> judge.Jobs:
    """The verdict on a recording of jobs, from its files alone."""
    return judge.jobs([list(judge.entries(path)) for path in sorted(folder.glob("jobs-*.jsonl"))])


def about(folder: Path) -> dict[str, Any]:
    """What a recording is of."""
    known: dict[str, Any] = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    return known
