"""A restore by hand: into another folder, to a moment or to the newest; nothing else is touched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from . import pgbackrest, repository, targets
from .errors import BackupError, RefusedError
from .pgbackrest import Backup
from .scratch import Scratch
from .settings import Settings
from .supervise import Limits

ENDED_BEFORE = "recovery ended before configured recovery target was reached"
DAY = 86400
MEMORY_MB = 512
# A restore by hand may lie beside a cluster that runs, which must not run out of room by it.
FREE_BYTES = 1024**3


def plan(settings: Settings, moment: str, timeline: str) -> dict[str, Any]:
    """What would be restored. Raises RefusedError, and touches nothing."""
    return _planned(settings, moment, timeline)[0]


def _planned(settings: Settings, moment: str, timeline: str) -> tuple[dict[str, Any], Backup]:
    if not (timeline in ("latest", "current") or timeline.isdecimal()):
        raise RefusedError(f"{timeline!r} is no timeline", "Say latest, current or its number")
    wanted = targets.parse(moment)
    info = repository.look(settings.stanza, beside=True)
    archived = repository.newest_archived(repository.archive(settings.stanza, info, beside=True))
    backup = targets.choose(info, wanted, archived, time.time())
    made = {
        "stanza": settings.stanza,
        "to": targets.NEWEST if wanted is None else wanted.isoformat(),
        "timeline": timeline,
        "backup": backup.label,
        "bytes": backup.size,
        "window": targets.window(info, archived).as_json(),
    }
    return made, backup


def restore(
    settings: Settings, folder: Path, moment: str, timeline: str, port: int
) -> dict[str, Any]:
    """Restores, recovers, and leaves the server running on a socket in the folder. Raises BackupError."""
    refuse_folder(folder)
    made, backup = _planned(settings, moment, timeline)
    wanted = targets.parse(moment)
    to = pgbackrest.to_time(wanted, timeline) if wanted else pgbackrest.to_newest(timeline)
    scratch = Scratch(folder, settings.bin_dir, port, MEMORY_MB)
    limits = Limits(time.monotonic() + DAY, folder.parent, FREE_BYTES)
    try:
        scratch.restore(settings.stanza, backup, to, limits)
        scratch.start(limits)
    except BackupError as error:
        scratch.remove()
        if ENDED_BEFORE in error.why:
            raise BackupError(
                f"the archive holds no change after {made['to']}: nothing happened, or WAL is missing",
                f"Have it verified; if nothing is missing, {targets.NEWEST} is what you want",
            ) from error
        raise
    return {**made, "folder": str(folder), "data": str(scratch.data), "psql": scratch.hint()}


def refuse_folder(folder: Path) -> None:
    """Raises RefusedError for a folder that exists, or that would lie in a cluster's data."""
    if not folder.is_absolute():
        raise RefusedError(f"{folder} is no absolute path")
    if folder.exists():
        raise RefusedError(f"{folder} exists", "Name a folder that does not; its parent has to")
    if not folder.parent.is_dir():
        raise RefusedError(f"{folder.parent} does not exist", "Make it, owned by postgres")
    for parent in folder.parents:
        if (parent / "PG_VERSION").exists():
            raise RefusedError(f"{folder} lies in a cluster's data folder", "Name another")


def scratch_at(settings: Settings, folder: Path) -> Scratch:
    """A cluster that was restored into the folder before. Raises RefusedError for any other folder."""
    found = list((folder / "socket").glob(".s.PGSQL.*[0-9]"))
    if not (folder / "data" / "PG_VERSION").exists() or not (folder / "pg_hba.conf").exists():
        raise RefusedError(f"{folder} holds no cluster that was restored there")
    port = int(found[0].suffix[1:]) if found else 0
    return Scratch(folder, settings.bin_dir, port, MEMORY_MB)


def drop(settings: Settings, folder: Path) -> None:
    """Stops and removes what a restore left. Raises RefusedError for any other folder."""
    scratch_at(settings, folder).remove()
