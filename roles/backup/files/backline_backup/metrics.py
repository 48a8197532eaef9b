"""What Prometheus is told of the repository and of the jobs: backup.prom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from . import repository, state, textfile
from .errors import BackupError
from .pgbackrest import Info
from .settings import Settings
from .textfile import Sample

HELP = {
    "backline_backup_readable": "Whether the repository could be read.",
    "backline_backup_newest_timestamp_seconds": "When the newest backup (any, or full) ended; 0 for never.",
    "backline_backup_database_bytes": "Size of the cluster in the newest backup.",
    "backline_backup_backups": "How many backups the repository has.",
    "backline_backup_stored_bytes": "Size of the backups as they are stored.",
    "backline_backup_job_success": "Whether the job's last run was good.",
    "backline_backup_job_timestamp_seconds": "When the job's last run ended.",
    "backline_backup_job_success_timestamp_seconds": "When the last good run ended; 0: never good.",
    "backline_backup_job_seconds": "How long the job's last run took.",
    "backline_backup_drill_seconds": "How long each phase of the last drill took.",
    "backline_backup_drill_tables": "Tables whose rows the last drill compared with the leader's.",
    "backline_backup_told_timestamp_seconds": "When this was written.",
}


def write(settings: Settings) -> None:
    """Replaces backup.prom. Never raises for a repository that cannot be read: that is told, too."""
    try:
        info = repository.look(settings.stanza)
    except (BackupError, OSError) as error:
        print(f"the repository cannot be read: {error}", flush=True)
        info = None
    jobs = [job for job in state.JOBS if job != "drill" or settings.drill]
    results = {job: state.read(settings.state_dir, job) for job in jobs}
    since = state.since(settings.state_dir)
    told = textfile.render(samples(settings.stanza, info, results, since, time.time()), HELP)
    state.replace(settings.state_dir / "backup.prom", told)


def samples(
    stanza: str,
    info: Info | None,
    results: Mapping[str, state.Result | None],
    since: float,
    now: float,
) -> Iterator[Sample]:
    """Of each job in `results`; one that never ran counts as good at `since`, and is old one day."""
    labels = {"stanza": stanza}
    yield "backline_backup_told_timestamp_seconds", labels, now
    yield "backline_backup_readable", labels, int(info is not None)
    if info is not None:
        yield from _backups(info, labels)
    for job, result in results.items():
        if result:
            yield from _job(result, labels)
        else:
            own = {**labels, "job_name": job}
            yield "backline_backup_job_success_timestamp_seconds", own, since


def _backups(info: Info, labels: dict[str, str]) -> Iterator[Sample]:
    for kind, newest in (("any", info.newest()), ("full", info.newest("full"))):
        stop = newest.stop if newest else 0
        yield "backline_backup_newest_timestamp_seconds", {**labels, "type": kind}, stop
    latest = info.newest()
    yield "backline_backup_database_bytes", labels, latest.size if latest else 0
    yield "backline_backup_backups", labels, len(info.backups)
    yield "backline_backup_stored_bytes", labels, sum(one.stored for one in info.backups)


def _job(result: state.Result, labels: dict[str, str]) -> Iterator[Sample]:
    own = {**labels, "job_name": result.job}
    yield "backline_backup_job_success", own, int(result.good)
    yield "backline_backup_job_timestamp_seconds", own, result.ended
    yield "backline_backup_job_success_timestamp_seconds", own, result.succeeded
    yield "backline_backup_job_seconds", own, round(result.ended - result.began, 3)
    if result.job == "drill":
        yield "backline_backup_drill_tables", labels, result.details.get("tables", 0)
        for phase, seconds in result.details.get("seconds", {}).items():
            yield "backline_backup_drill_seconds", {**labels, "phase": phase}, seconds
