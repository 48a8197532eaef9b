"""What the role wrote down for this host, in /etc/backline/backup.json. No secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path("/etc/backline/backup.json")


@dataclass(frozen=True)
class Drill:
    """How the restore drill is bounded, and how it reaches the leader.

    `free_mb`: what has to stay free on the scratch folder's file system. `seconds`: for all of it.
    `tables_max_mb`: larger tables are left to amcheck and page checksums. `login`: environment for
    psql, with a file of passwords named in it.
    """

    folder: Path
    port: int
    seconds: int
    free_mb: int
    memory_mb: int
    tables_max_mb: int
    jobs: int
    verify: bool
    login: dict[str, str]


@dataclass(frozen=True)
class Settings:
    """One host's part in the backup of one cluster, called a stanza by pgBackRest."""

    stanza: str
    bin_dir: Path
    state_dir: Path
    socket_dir: Path
    port: int
    segment_mb: int
    lock_seconds: int
    drill: Drill | None


def load(path: Path = FILE) -> Settings:
    return parse(json.loads(path.read_text(encoding="utf-8")))


def parse(written: dict[str, Any]) -> Settings:
    drill = written["drill"]
    return Settings(
        stanza=written["stanza"],
        bin_dir=Path(written["bin_dir"]),
        state_dir=Path(written["state_dir"]),
        socket_dir=Path(written["socket_dir"]),
        port=written["port"],
        segment_mb=written["segment_mb"],
        lock_seconds=written["lock_seconds"],
        drill=Drill(**{**drill, "folder": Path(drill["folder"])}) if drill else None,
    )
