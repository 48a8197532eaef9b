"""Backup, check and verify, on the repository's host. pgBackRest finds who leads by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import pgbackrest, repository
from .errors import BackupError, CommandError
from .repository import Stream
from .settings import Settings

SHOWN = 12


def full(settings: Settings, stream: Stream) -> Mapping[str, Any]:
    return back_up(settings, "full", stream)


def diff(settings: Settings, stream: Stream) -> Mapping[str, Any]:
    return back_up(settings, "diff", stream)


def back_up(settings: Settings, kind: str, stream: Stream) -> Mapping[str, Any]:
    """A backup from a standby if there is one, else from the leader. Raises BackupError."""
    try:
        stream(pgbackrest.backup(settings.stanza, kind))
    except CommandError as error:
        if pgbackrest.NO_STANDBY not in error.output:
            raise
        print("no standby answers: the backup is taken from the leader", flush=True)
        stream(pgbackrest.backup(settings.stanza, kind, "--no-backup-standby"))
    made = repository.look(settings.stanza).newest()
    if made is None:
        raise BackupError("pgBackRest made a backup that it does not list")
    if made.damaged:
        raise BackupError(f"{made.label} holds pages with wrong checksums: the database is damaged")
    return {"label": made.label, "bytes": made.size, "stored_bytes": made.stored}


def check(settings: Settings, stream: Stream) -> Mapping[str, Any]:
    """Has the leader finish a WAL segment and waits until it is in the repository."""
    stream(pgbackrest.command(settings.stanza, "check", "--log-level-console=info"))
    return {}


def verify(settings: Settings, stream: Stream) -> Mapping[str, Any]:
    """Reads the whole repository, every kind of file, and looks for missing WAL."""
    output = stream(pgbackrest.verify(settings.stanza))
    faults = pgbackrest.verify_faults(output)
    if not pgbackrest.verify_looked(output):
        faults.append("pgBackRest checked nothing")
    info = repository.look(settings.stanza)
    gaps = repository.missing_wal(settings.stanza, info, settings.segment_mb)
    faults += [f"WAL is missing: {gap}" for gap in gaps]
    faults += repository.damage(settings.stanza)
    if faults:
        raise BackupError("; ".join(faults[:SHOWN]))
    return {"backups": len(info.backups)}
