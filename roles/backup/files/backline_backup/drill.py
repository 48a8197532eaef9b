"""The restore drill: the newest backup, recovered to a moment, compared with the leader, taken apart.

Two rows are left on the leader with a moment between them, and all rows that its user may read are
summed up before and after (rows.py). The newest backup is restored to that moment in a scratch
cluster; the row before has to be there, the row after must not; the sums have to agree; every table
and index passes amcheck, every page its checksum. Whatever happens, the scratch cluster is removed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import jobs, marker, pgbackrest, repository, rows, supervise
from .errors import BackupError, CommandError
from .psql import Psql
from .repository import Stream
from .scratch import Scratch
from .settings import Drill, Settings
from .supervise import Limits

SCANS = 3
"""A table that is dropped while it is read makes one more necessary."""


class DrillError(BackupError):
    """The drill failed in `phase`; `details` is what was found out until then."""

    def __init__(self, phase: str, error: BackupError, details: Mapping[str, Any]) -> None:
        super().__init__(error.why, error.hint)
        self.phase = phase
        self.details = details


@dataclass
class Report:
    """What the drill finds out on its way, for the state file."""

    phase: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        self.phase = phase
        print(f"== {phase}", flush=True)
        began = time.monotonic()
        yield
        self.seconds[phase] = round(time.monotonic() - began, 3)

    def details(self) -> dict[str, Any]:
        return {**self.found, "seconds": self.seconds}


def run(settings: Settings, stream: Stream) -> Mapping[str, Any]:
    """A whole drill, within its own limits rather than those of `stream`. Raises DrillError."""
    drill = settings.drill
    if drill is None:
        raise BackupError("this host has no drill")
    report, scratch = Report(), scratch_of(settings)
    limits = Limits(time.monotonic() + drill.seconds, drill.folder, drill.free_mb * 1024**2)
    try:
        scratch.remove()
        _rehearse(settings, drill, scratch, limits, report)
    except BackupError as error:
        raise DrillError(report.phase, error, report.details()) from error
    finally:
        scratch.remove()
    return report.details()


def scratch_of(settings: Settings) -> Scratch:
    assert settings.drill is not None
    drill = settings.drill
    return Scratch(drill.folder / "cluster", settings.bin_dir, drill.port, drill.memory_mb)


def _rehearse(
    settings: Settings, drill: Drill, scratch: Scratch, limits: Limits, report: Report
) -> None:
    def stream(argv: Sequence[str]) -> str:
        said = supervise.run(argv, limits)
        print(said, end="", flush=True)
        return said

    leader = Psql(settings.bin_dir, drill.login, limits)
    home = drill.login["PGDATABASE"]
    with report.during("backup"):
        backup = repository.look(settings.stanza).newest()
        if backup is None:
            raise BackupError("there is no backup yet")
        report.found |= {"backup": backup.label, "backup_stop": backup.stop, "bytes": backup.size}
    with report.during("leader"):
        marker.prepare(leader, home)
        before, horizon = scan(leader, home, drill.tables_max_mb)
        marks = marker.leave(leader, home)
        after, _ = scan(leader, home, drill.tables_max_mb, horizon)
        report.found |= {"moment": marks.moment.isoformat()}
    with report.during("archive"):
        jobs.check(settings, stream)
    if drill.verify:
        with report.during("verify"):
            jobs.verify(settings, stream)
    with report.during("restore"):
        scratch.restore(settings.stanza, backup, pgbackrest.to_time(marks.moment), limits)
    with report.during("recovery"):
        scratch.start(limits)
    restored = scratch.psql(limits)
    with report.during("rows"):
        marker.judge(restored.json(marker.found(marks.run), home))
        there = recovered(restored, before, horizon, drill)
        report.found |= judge_rows(before, after, there)
    with report.during("amcheck"):
        supervise.run(amcheck(settings, drill), limits, environment=scratch.environment())
    with report.during("checksums"):
        scratch.stop(limits)
        supervise.run(
            [settings.bin_dir / "pg_checksums", "--check", f"--pgdata={scratch.data}"], limits
        )


def amcheck(settings: Settings, drill: Drill) -> list[str]:
    """Every heap, every B-tree, and that each row is in each of its indexes."""
    words = ["--all", "--heapallindexed", "--parent-check", "--install-missing"]
    return [str(settings.bin_dir / "pg_amcheck"), *words, f"--jobs={drill.jobs}"]


Scan = dict[str, rows.Sums]
"""Database → what its tables come to."""


def scan(server: Psql, home: str, max_mb: int, horizon: int | None = None) -> tuple[Scan, int]:
    """Sums up all tables up to that size that may be read, and the horizon that was used."""
    for attempt in range(SCANS):
        try:
            if horizon is None:
                (horizon,) = server.json(rows.HORIZON, home)
            found = {}
            for database in server.json(rows.DATABASES, home):
                tables = tables_of(server, database, max_mb)
                found[database] = sums(server, database, tables, horizon)
            return found, horizon
        except CommandError:
            if attempt == SCANS - 1:
                raise
    raise AssertionError


def tables_of(server: Psql, database: str, max_mb: int) -> list[rows.Table]:
    listed = server.json(rows.TABLES, database)
    return [rows.Table(name, oid) for name, oid, size in listed if size <= max_mb * 1024**2]


def sums(server: Psql, database: str, tables: list[rows.Table], horizon: int) -> rows.Sums:
    if not tables:
        return {}
    found = server.json(rows.sums(tables, horizon), database)
    return {tables[entry["table"]]: entry["pieces"] for entry in found}


def recovered(server: Psql, wanted: Scan, horizon: int, drill: Drill) -> Scan:
    """The same sums from the restored cluster, of the tables that it has."""
    there = set(server.json(rows.DATABASES, drill.login["PGDATABASE"]))
    found = {}
    for database in sorted(there & set(wanted)):
        # Its size may be another: dead rows are not gone yet, or are again.
        tables = set(tables_of(server, database, sys.maxsize)) & set(wanted[database])
        found[database] = sums(server, database, sorted(tables), horizon)
    return found


def judge_rows(before: Scan, after: Scan, restored: Scan) -> dict[str, Any]:
    """What was compared. Raises BackupError when rows differ, or none could be compared at all."""
    found = {
        database: rows.compare(
            before[database], after.get(database, {}), restored.get(database, {})
        )
        for database in before
    }
    differing = [
        f"{database}: {where}" for database, one in found.items() for where in one.differing
    ]
    if differing:
        raise BackupError(f"restored rows differ from the leader's in {'; '.join(differing[:5])}")
    counts = {
        "tables": sum(one.idle for one in found.values()),
        "pieces": sum(one.pieces for one in found.values()),
        "busy_pieces": sum(one.busy for one in found.values()),
    }
    if not counts["tables"]:
        raise BackupError("no row could be compared: every table was written to all the time")
    return counts
