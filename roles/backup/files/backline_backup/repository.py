"""Asks pgBackRest what is in the repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import intact, pgbackrest, wal
from .errors import CommandError
from .supervise import last_words

Stream = Callable[[Sequence[str]], str]
SECONDS = 300


def look(stanza: str, beside: bool = False) -> pgbackrest.Info:
    """Backups and archive. Raises CommandError or BackupError when nobody can read them."""
    return pgbackrest.parse_info(
        ask(pgbackrest.command(stanza, "info", "--output=json", beside=beside)), stanza
    )


def archive(
    stanza: str, info: pgbackrest.Info, beside: bool = False
) -> dict[str, Mapping[str, Any]]:
    """The archive's files, by their paths inside of it."""
    if not info.archive:
        return {}
    return files(stanza, f"archive/{stanza}/{info.archive}", beside)


def files(stanza: str, path: str, beside: bool = False) -> dict[str, Mapping[str, Any]]:
    """All files of a folder of the repository, by their paths inside of it."""
    return pgbackrest.parse_files(ask(pgbackrest.listing(stanza, path, beside=beside)))


def damage(stanza: str) -> list[str]:
    """What is wrong with files that pgBackRest keeps twice or never reads (intact.py)."""
    folders = (f"archive/{stanza}", f"backup/{stanza}")
    paths = [f"{folder}/{path}" for folder in folders for path in files(stanza, folder)]
    return list(intact.faults(paths, lambda path: fetch(stanza, path)))


def missing_wal(stanza: str, info: pgbackrest.Info, segment_mb: int) -> list[str]:
    """What is missing from the newest backup on: nothing can be recovered across it."""
    newest = info.newest()
    if newest is None:
        return []
    names = wal.archived(archive(stanza, info))
    found = wal.gaps(names, newest.wal_start, newest.wal_stop, segment_mb)
    return pgbackrest.gap_names(found, segment_mb)


def ask(argv: Sequence[str]) -> str:
    """What the program writes to stdout. Raises CommandError."""
    return _ask(argv).decode(errors="replace")


def fetch(stanza: str, path: str) -> bytes:
    """A file of the repository, decrypted: it may hold keys. Raises CommandError, without content."""
    return _ask(pgbackrest.get(stanza, path))


def _ask(argv: Sequence[str]) -> bytes:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{argv[0]} did not end within {SECONDS} s", -1, "") from error
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise CommandError(last_words(argv, said), done.returncode, said)
    return done.stdout


def stream(argv: Sequence[str]) -> str:
    """Runs a program whose words go to the journal as they come. Returns them; raises CommandError."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    output = "".join(lines)
    if process.wait():
        raise CommandError(last_words(argv, output), process.returncode, output)
    return output


def newest_archived(files: Mapping[str, Mapping[str, Any]]) -> float:
    """When the last whole segment came in, seconds since the epoch; 0 for never."""
    whole = [entry["time"] for path, entry in files.items() if wal.archived([path])]
    return float(max(whole, default=0))
