"""pgBackRest's commands as argument lists, and what it answers as data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import wal
from .errors import BackupError

PROGRAM = "/usr/bin/pgbackrest"
BESIDE = ("--config=/etc/pgbackrest/restore.conf", "--config-include-path=/etc/pgbackrest/conf.d")
"""The configuration without the hosts of the cluster: for a folder on this host."""

KINDS = {"full": "full", "diff": "diff", "incr": "incr"}
NO_STANDBY = "unable to find standby cluster"
FAULT = re.compile(r"INFO: ((?:invalid|file missing) .*)")
SUMMARY = re.compile(r"(missing|checksum invalid|size invalid|other): ([1-9]\d*)")
STATUS = re.compile(r"status: (?!ok\b|valid\b)\w+")


@dataclass(frozen=True)
class Backup:
    """One backup of the repository. Times are seconds since the epoch, sizes bytes.

    `wal_start`, `wal_stop`: the segments that it needs in any case. `damaged`: PostgreSQL's own page
    checksums were wrong when it was made.
    """

    label: str
    kind: str
    start: int
    stop: int
    wal_start: str
    wal_stop: str
    size: int
    stored: int
    damaged: bool


@dataclass(frozen=True)
class Info:
    """What is in the repository: backups from old to new, and the current cluster's archive."""

    backups: tuple[Backup, ...]
    archive: str
    wal_newest: str

    def newest(self, *kinds: str) -> Backup | None:
        found = [backup for backup in self.backups if not kinds or backup.kind in kinds]
        return found[-1] if found else None

    def oldest(self) -> Backup | None:
        return self.backups[0] if self.backups else None


def command(stanza: str, name: str, *options: str, beside: bool = False) -> list[str]:
    """The argument list of one of pgBackRest's commands."""
    where = BESIDE if beside else ()
    return [PROGRAM, *where, f"--stanza={stanza}", *options, name]


def backup(stanza: str, kind: str, *options: str) -> list[str]:
    return command(stanza, "backup", f"--type={kind}", "--log-level-console=info", *options)


def verify(stanza: str) -> list[str]:
    options = ("--output=text", "--verbose", "--log-level-console=info")
    return command(stanza, "verify", *options)


def listing(stanza: str, path: str, beside: bool = False) -> list[str]:
    """Lists all files of a folder of the repository."""
    return [*command(stanza, "repo-ls", "--recurse", "--output=json", beside=beside), path]


def get(stanza: str, path: str) -> list[str]:
    """Writes a file of the repository, decrypted, to stdout."""
    return [*command(stanza, "repo-get"), path]


def restore(
    stanza: str, label: str, data: Path, tablespaces: Path, target: Sequence[str]
) -> list[str]:
    """Restores a backup into a folder of its own; its server will never archive anything."""
    options = (
        f"--set={label}",
        f"--pg1-path={data}",
        f"--tablespace-map-all={tablespaces}",
        "--archive-mode=off",
        "--log-level-console=info",
        *target,
    )
    return command(stanza, "restore", *options, beside=True)


def to_time(moment: datetime, timeline: str = "latest") -> list[str]:
    """The options that end recovery after the last commit up to `moment`, and open the database."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
    return [
        "--type=time",
        f"--target={text}",
        "--target-action=promote",
        f"--target-timeline={timeline}",
    ]


def to_newest(timeline: str = "latest") -> list[str]:
    """The options that replay all that was archived."""
    return ["--type=default", f"--target-timeline={timeline}"]


def parse_info(text: str, stanza: str) -> Info:
    """What `info --output=json` says. Raises BackupError when the stanza is not there or not readable."""
    found = [entry for entry in json.loads(text) if entry["name"] == stanza]
    if not found:
        raise BackupError(f"the repository knows no stanza {stanza}")
    entry = found[0]
    # 2: a stanza without a backup is as it should be, at first.
    if entry["status"]["code"] not in (0, 2):
        raise BackupError(f"stanza {stanza}: {entry['status']['message']}")
    current = max((one["id"] for one in entry["db"]), default=0)
    archives = [one for one in entry["archive"] if one["database"]["id"] == current]
    backups = [_backup(one) for one in entry["backup"] if one["database"]["id"] == current]
    return Info(
        backups=tuple(sorted(backups, key=lambda one: one.stop)),
        archive=archives[0]["id"] if archives else "",
        wal_newest=(archives[0]["max"] or "") if archives else "",
    )


def _backup(entry: Mapping[str, Any]) -> Backup:
    stored = entry["info"]["repository"]
    return Backup(
        label=entry["label"],
        kind=KINDS[entry["type"]],
        start=entry["timestamp"]["start"],
        stop=entry["timestamp"]["stop"],
        wal_start=entry["archive"]["start"],
        wal_stop=entry["archive"]["stop"],
        size=entry["info"]["size"],
        stored=stored["delta"],
        damaged=bool(entry.get("error")),
    )


def parse_files(text: str) -> dict[str, Mapping[str, Any]]:
    """What `repo-ls --recurse --output=json` says: files by their path, each with time and size."""
    listed: dict[str, Mapping[str, Any]] = json.loads(text) if text.strip() else {}
    return {path: entry for path, entry in listed.items() if entry["type"] == "file"}


def verify_faults(output: str) -> list[str]:
    """What `verify` found wrong, a line each. It ends with 0 even then, so that its words decide."""
    lines = [line.strip() for line in output.splitlines()]
    named = [match[1].strip() for match in map(FAULT.search, lines) if match]
    counted = [line for line in lines if SUMMARY.search(line) or STATUS.search(line)]
    return list(dict.fromkeys(named or counted))


def verify_looked(output: str) -> bool:
    """Whether `verify` says that it checked anything: silence is no good news."""
    return "total WAL checked" in output or "total files checked" in output


def gap_names(found: Sequence[wal.Gap], segment_mb: int) -> list[str]:
    """Each gap as its first and last segment."""
    ends = [(gap.first.name(segment_mb), gap.last.name(segment_mb)) for gap in found]
    return [first if first == last else f"{first} to {last}" for first, last in ends]
