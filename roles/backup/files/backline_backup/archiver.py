"""What Prometheus is told of a database host's WAL archiving: archive.prom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from . import state, textfile, wal
from .errors import BackupError
from .psql import Psql
from .settings import Settings
from .supervise import Limits
from .textfile import Sample

SECONDS = 10
HELP = {
    "backline_archive_readable": "Whether PostgreSQL answered.",
    "backline_archive_primary": "Whether it is the leader, which alone archives.",
    "backline_archive_enabled": "Whether it archives at all.",
    "backline_archive_archived_total": "Segments that were archived.",
    "backline_archive_failed_total": "Attempts to archive a segment that failed.",
    "backline_archive_archived_timestamp_seconds": "When a segment was last archived; 0 for never.",
    "backline_archive_failed_timestamp_seconds": "When an attempt last failed; 0 for never.",
    "backline_archive_waiting_segments": "Segments that wait to be archived.",
    "backline_archive_waiting_seconds": "How long the oldest of them has waited.",
    "backline_archive_lag_bytes": "WAL between the last archived segment and the current position.",
    "backline_archive_told_timestamp_seconds": "When this was written.",
}
# On a standby there is no current position, and nothing is asked for.
QUESTION = """select json_build_object(
  'primary', not pg_is_in_recovery(), 'enabled', current_setting('archive_mode') <> 'off',
  'archived', archived_count, 'failed', failed_count, 'last', last_archived_wal,
  'archived_at', coalesce(extract(epoch from last_archived_time), 0),
  'failed_at', coalesce(extract(epoch from last_failed_time), 0),
  'waiting', (select count(*) from pg_ls_archive_statusdir() where name like '%.ready'),
  'waited', (select coalesce(extract(epoch from now() - min(modification)), 0)
             from pg_ls_archive_statusdir() where name like '%.ready'),
  'position', case when pg_is_in_recovery() then null else pg_current_wal_lsn() end)
from pg_stat_archiver;"""


def write(settings: Settings) -> None:
    """Replaces archive.prom. Never raises for a server that does not answer: that is told, too."""
    limits = Limits(time.monotonic() + SECONDS, settings.state_dir)
    environment = {"PGHOST": str(settings.socket_dir), "PGPORT": str(settings.port)}
    server = Psql(settings.bin_dir, {**environment, "PGCONNECT_TIMEOUT": "5"}, limits)
    answer: Mapping[str, Any] | None = None
    try:
        (answer,) = server.json(QUESTION, "postgres")
    except BackupError as error:
        print(error, flush=True)
    told = textfile.render(samples(answer, settings.segment_mb, time.time()), HELP)
    state.replace(settings.state_dir / "archive.prom", told)


def samples(answer: Mapping[str, Any] | None, segment_mb: int, now: float) -> Iterator[Sample]:
    """Of a standby no more than that it is one: it archives nothing, and its counters are history."""
    yield "backline_archive_told_timestamp_seconds", {}, now
    yield "backline_archive_readable", {}, int(answer is not None)
    if answer is None:
        return
    yield "backline_archive_primary", {}, int(answer["primary"])
    if not answer["primary"]:
        return
    yield "backline_archive_enabled", {}, int(answer["enabled"])
    yield "backline_archive_archived_total", {}, answer["archived"]
    yield "backline_archive_failed_total", {}, answer["failed"]
    yield "backline_archive_archived_timestamp_seconds", {}, answer["archived_at"]
    yield "backline_archive_failed_timestamp_seconds", {}, answer["failed_at"]
    yield "backline_archive_waiting_segments", {}, answer["waiting"]
    yield "backline_archive_waiting_seconds", {}, max(0, answer["waited"])
    if answer["last"] and wal.SEGMENT.match(answer["last"]):
        behind = wal.bytes_behind(answer["position"], answer["last"], segment_mb)
        yield "backline_archive_lag_bytes", {}, behind
