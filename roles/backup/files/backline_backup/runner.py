"""Runs a job that a timer asked for, and keeps and tells how it went."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from . import drill, jobs, locks, metrics, repository, state
from .errors import BackupError
from .repository import Stream
from .settings import Settings

Job = Callable[[Settings, Stream], Mapping[str, Any]]

JOBS: Mapping[str, Job] = {
    "full": jobs.full,
    "diff": jobs.diff,
    "check": jobs.check,
    "verify": jobs.verify,
    "drill": drill.run,
}
# It only asks; it must not wait for a backup of hours.
BESIDE_OTHERS = frozenset({"check"})


def run(settings: Settings, name: str) -> state.Result:
    """Runs the job. Never raises for one that fails: the result says so."""
    began = time.time()
    phase, why = "", ""
    details: Mapping[str, Any] = {}
    try:
        details = _job(settings, name)
    except drill.DrillError as error:
        phase, why, details = error.phase, str(error), error.details
    except BackupError as error:
        why = str(error)
    except Exception as error:  # whatever it is, the job was not good, and that has to be known
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
    result = state.Result(name, not why, began, time.time(), phase=phase, why=why, details=details)
    kept = state.write(settings.state_dir, result)
    metrics.write(settings)
    return kept


def _job(settings: Settings, name: str) -> Mapping[str, Any]:
    if name in BESIDE_OTHERS:
        return JOBS[name](settings, repository.stream)
    with locks.alone(settings.state_dir, settings.lock_seconds):
        return JOBS[name](settings, repository.stream)
