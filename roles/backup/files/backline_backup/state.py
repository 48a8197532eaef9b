"""How each job's last run went: one small JSON file per job, replaced by a rename."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
JOBS = ("full", "diff", "check", "verify", "drill")


@dataclass(frozen=True)
class Result:
    """The last run of a job. Times are seconds since the epoch.

    `why` and `phase` say what failed and where, and are empty when it was good. `succeeded` is when
    the job was last good, this run or an earlier one; 0 for never. `details` is the job's own.
    """

    job: str
    good: bool
    began: float
    ended: float
    succeeded: float = 0
    phase: str = ""
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def write(folder: Path, result: Result) -> Result:
    """Keeps the result, with the time of the last good run; returns it as it was kept."""
    before = read(folder, result.job)
    succeeded = result.ended if result.good else (before.succeeded if before else 0)
    kept = Result(**{**asdict(result), "succeeded": succeeded})
    replace(folder / f"{result.job}.json", json.dumps(kept.as_json(), indent=1) + "\n")
    return kept


def read(folder: Path, job: str) -> Result | None:
    """The job's last result; None when there is none, or when nobody can read it any more."""
    try:
        found = json.loads((folder / f"{job}.json").read_text(encoding="utf-8"))
        found.pop("schema_version")
        return Result(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def since(folder: Path) -> float:
    """When somebody first looked here, in seconds since the epoch: jobs are due from then on."""
    kept = folder / "since"
    if not kept.exists():
        replace(kept, "What jobs are waited for since then: this file's time.\n")
    return kept.stat().st_mtime


def replace(path: Path, text: str) -> None:
    """The file has all of the new text, or all of the old; anybody may read it."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    partial.replace(path)
