"""Makes a restored and recovered cluster fit to take the place of the one that was.

Patroni takes over a data folder that is there ("Convert a standalone"). Until then the restored server
must forget how it was recovered, know the accounts that Patroni uses by today's passwords, and leave
what the archive lacks: it was promoted without archiving, so its timeline is written nowhere yet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import wal
from .beside import scratch_at
from .errors import BackupError, RefusedError
from .settings import Settings
from .supervise import Limits

SECONDS = 600
FORGOTTEN = (
    "archive_mode",
    "restore_command",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_time",
    "recovery_target_timeline",
)
RIGHTS = {"superuser": "SUPERUSER", "replication": "REPLICATION", "rewind": ""}
# What pg_rewind calls, as PostgreSQL's documentation lists it.
REWIND = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)


def prepare(settings: Settings, folder: Path, accounts: Mapping[str, Any]) -> dict[str, Any]:
    """Ends with the server stopped and its data folder ready. `accounts`: Patroni's `authentication`."""
    scratch = scratch_at(settings, folder)
    limits = Limits(time.monotonic() + SECONDS, folder)
    if any((scratch.data / "pg_tblspc").iterdir()):
        raise RefusedError(
            "the cluster has tablespaces, which this cannot put in place",
            f"The restored server runs: {scratch.hint()}",
        )
    server = scratch.psql(limits)
    for sql in statements(accounts):
        server.run(sql, "postgres")
    (current,) = server.json("select to_json(pg_walfile_name(pg_current_wal_lsn()));", "postgres")
    scratch.stop(limits)
    left = leave_for_archive(scratch.data / "pg_wal", current, settings.segment_mb)
    # Patroni would take its own settings from the time of the backup.
    (scratch.data / "patroni.dynamic.json").unlink(missing_ok=True)
    timeline = wal.parse(current, settings.segment_mb).timeline
    return {"data": str(scratch.data), "timeline": timeline, "left_for_archive": left}


def statements(accounts: Mapping[str, Any]) -> list[str]:
    """SQL, each for a transaction of its own. Raises BackupError for an account without a name."""
    made = [f"alter system reset {name};" for name in FORGOTTEN]
    for kind, rights in RIGHTS.items():
        account = accounts.get(kind)
        if not account:
            continue
        if not account.get("username") or not account.get("password"):
            raise BackupError(f"patroni.yml has no {kind} with username and password")
        made += _account(account["username"], account["password"], rights)
        if kind == "rewind":
            made += [
                f"grant execute on function pg_catalog.{name} to {identifier(account['username'])};"
                for name in REWIND
            ]
    return made


def _account(name: str, password: str, rights: str) -> list[str]:
    who = identifier(name)
    return [
        f"do $do$ begin create role {who}; exception when duplicate_object then null; end $do$;",
        f"set password_encryption = 'scram-sha-256';\n"
        f"alter role {who} with login {rights} password {literal(password)};",
    ]


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def leave_for_archive(folder: Path, current: str, segment_mb: int) -> list[str]:
    """Marks the new timeline's history and its whole segments for the archiver. Returns their names."""
    now = wal.parse(current, segment_mb)
    names = [f"{now.timeline:08X}.history"]
    for path in sorted(folder.iterdir()):
        if wal.SEGMENT.match(path.name):
            segment = wal.parse(path.name, segment_mb)
            if segment.timeline == now.timeline and segment.index < now.index:
                names.append(path.name)
    present = [name for name in names if (folder / name).exists()]
    for name in present:
        (folder / "archive_status" / f"{name}.done").unlink(missing_ok=True)
        (folder / "archive_status" / f"{name}.ready").touch(mode=0o600)
    return present
