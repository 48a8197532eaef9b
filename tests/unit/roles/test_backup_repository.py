"""pgBackRest's answers as they really are (2.45), and damage that it does not tell of."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest
from backline_backup import intact, pgbackrest
from backline_backup.errors import BackupError

GOOD = """P00   INFO: verify command begin 2.45: --stanza=main
P00   INFO: stanza: main
            status: ok
              archiveId: 15-1, total WAL checked: 7, total valid WAL: 7
                missing: 0, checksum invalid: 0, size invalid: 0, other: 0
              backup: 20261126-080255F, status: valid, total files checked: 1571, total valid files: 1571
                missing: 0, checksum invalid: 0, size invalid: 0, other: 0
P00   INFO: verify command end: completed successfully
"""
NAMED = """P01   INFO: invalid checksum '20261126-080255F/pg_data/base/1/2691.zst'
P02   INFO: file missing '20261126-080255F_20261126-080313D/pg_data/global/pg_control.zst'
P00   INFO: stanza: main
            status: error
              backup: 20261126-080255F, status: invalid, total files checked: 1571, total valid files: 1570
                missing: 1, checksum invalid: 1, size invalid: 0, other: 0
stanza: main
status: error
P00   INFO: verify command end: completed successfully
"""
INFO = [
    {
        "archive": [
            {"database": {"id": 1, "repo-key": 1}, "id": "14-1", "max": "0" * 24, "min": "0" * 24},
            {
                "database": {"id": 2, "repo-key": 1},
                "id": "15-2",
                "max": "000000010000000000000003",
                "min": "",
            },
        ],
        "backup": [
            {
                "archive": {
                    "start": "000000010000000000000003",
                    "stop": "000000010000000000000004",
                },
                "database": {"id": 2, "repo-key": 1},
                "error": False,
                "info": {
                    "delta": 1,
                    "repository": {"delta": 4798544, "size": 4798544},
                    "size": 39939444,
                },
                "label": "20261126-080255F",
                "timestamp": {"start": 1795680175, "stop": 1795680182},
                "type": "full",
            }
        ],
        "db": [{"id": 1}, {"id": 2}],
        "name": "main",
        "status": {"code": 0, "message": "ok"},
    }
]


def test_a_good_repository_has_no_faults() -> None:
    assert pgbackrest.verify_faults(GOOD) == [] and pgbackrest.verify_looked(GOOD)


def test_files_that_are_damaged_or_missing_are_named() -> None:
    assert pgbackrest.verify_faults(NAMED) == [
        "invalid checksum '20261126-080255F/pg_data/base/1/2691.zst'",
        "file missing '20261126-080255F_20261126-080313D/pg_data/global/pg_control.zst'",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("status: ok", "status: error"),
        ("status: valid", "status: invalid"),
        ("missing: 0", "missing: 1"),
        ("other: 0", "other: 12"),
    ],
)
def test_a_fault_that_is_only_counted_is_one(old: str, new: str) -> None:
    assert pgbackrest.verify_faults(GOOD.replace(old, new, 1))


def test_silence_is_no_good_news() -> None:
    assert not pgbackrest.verify_looked("P00   INFO: verify command end: completed successfully\n")


def test_what_is_in_the_repository_is_read() -> None:
    info = pgbackrest.parse_info(json.dumps(INFO), "main")
    assert info.archive == "15-2" and info.wal_newest == "000000010000000000000003"
    newest = info.newest()
    assert newest and (newest.label, newest.stop, newest.stored) == (
        "20261126-080255F",
        1795680182,
        4798544,
    )
    assert info.newest("diff") is None


def test_backups_of_a_cluster_that_was_replaced_do_not_count() -> None:
    changed = json.loads(json.dumps(INFO))
    changed[0]["backup"][0]["database"]["id"] = 1
    assert pgbackrest.parse_info(json.dumps(changed), "main").backups == ()


@pytest.mark.parametrize("status", [1, 3, 99])
def test_a_repository_that_cannot_be_read_is_an_error(status: int) -> None:
    changed = [{**INFO[0], "status": {"code": status, "message": "other"}}]
    with pytest.raises(BackupError, match="other"):
        pgbackrest.parse_info(json.dumps(changed), "main")
    with pytest.raises(BackupError, match="no stanza music"):
        pgbackrest.parse_info(json.dumps(INFO), "music")


FILES = {
    "archive/main/archive.info": b"[db]\n",
    "archive/main/archive.info.copy": b"[db]\n",
    "archive/main/15-1/00000002.history": b"1\t0/3000000\tno recovery target specified\n",
    "backup/main/1F/backup.manifest": b"[a]\n",
    "backup/main/1F/backup.manifest.copy": b"[a]\n",
    "backup/main/1F/bundle/1": b"\xff",
    "backup/main/backup.history/2026/1F.manifest.gz": gzip.compress(b"[a]\n" * 100),
}


def getter(files: dict[str, bytes]) -> Callable[[str], bytes]:
    def get(path: str) -> bytes:
        if path not in files:
            raise BackupError("unable to open missing file")
        return files[path]

    return get


def test_files_that_are_whole_are_no_fault() -> None:
    assert list(intact.faults(FILES, getter(FILES))) == []


@pytest.mark.parametrize("path", [path for path in FILES if "bundle" not in path])
def test_a_byte_that_is_flipped_in_what_pgbackrest_does_not_read_is_seen(path: str) -> None:
    content = bytearray(FILES[path])
    content[len(content) // 2] ^= 0x80
    found = list(intact.faults(FILES, getter({**FILES, path: bytes(content)})))
    assert len(found) == 1 and path.removesuffix(".copy") in found[0]


def test_a_copy_that_is_missing_is_seen() -> None:
    rest = {path: text for path, text in FILES.items() if path != "archive/main/archive.info.copy"}
    (found,) = intact.faults(rest, getter(rest))
    assert "archive.info cannot be read" in found


@pytest.mark.parametrize("cut", [slice(0, -4), slice(0, 10), slice(0, 0)])
def test_a_packed_file_that_ends_early_is_seen(cut: slice) -> None:
    assert not intact.unpacks(FILES["backup/main/backup.history/2026/1F.manifest.gz"][cut])
