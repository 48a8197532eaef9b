"""What the program keeps, tells and refuses."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from backline_backup import (
    archiver,
    beside,
    handover,
    locks,
    marker,
    metrics,
    pgbackrest,
    state,
    supervise,
    textfile,
)
from backline_backup.errors import BackupError, CommandError, RefusedError
from backline_backup.scratch import Scratch
from backline_backup.supervise import Limits

PYTHON = sys.executable
STANDBY = {"primary": False, "archived": 7, "failed": 1}
LEADER = {
    "primary": True,
    "enabled": True,
    "archived": 7,
    "failed": 1,
    "last": "000000010000000000000004",
    "archived_at": 1000.5,
    "failed_at": 0,
    "waiting": 2,
    "waited": 31.5,
    "position": "0/6000000",
}


def result(job: str, good: bool, ended: float, **more: object) -> state.Result:
    return state.Result(job, good, ended - 10, ended, **more)  # type: ignore[arg-type]


def test_a_failure_keeps_the_time_of_the_last_success(tmp_path: Path) -> None:
    assert state.write(tmp_path, result("drill", False, 50, why="no")).succeeded == 0
    assert state.write(tmp_path, result("drill", True, 100)).succeeded == 100
    state.write(tmp_path, result("drill", False, 200, phase="restore", why="a byte"))
    kept = json.loads((tmp_path / "drill.json").read_text())
    assert kept["schema_version"] == 1
    assert (kept["good"], kept["succeeded"], kept["phase"], kept["why"]) == (
        False,
        100,
        "restore",
        "a byte",
    )
    assert (tmp_path / "drill.json").stat().st_mode & 0o777 == 0o644, "fab reads it as another user"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1, "job": "drill"}'])
def test_a_state_file_that_nobody_can_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "drill.json").write_text(text)
    assert state.read(tmp_path, "drill") is None
    assert state.write(tmp_path, result("drill", False, 50)).succeeded == 0


def test_labels_are_escaped_and_every_metric_has_a_help_text() -> None:
    told = textfile.render([("a_total", {"b": 'c"\\\n'}, 1)], {"a_total": "A."})
    assert told == '# HELP a_total A.\n# TYPE a_total counter\na_total{b="c\\"\\\\\\n"} 1\n'
    with pytest.raises(KeyError, match="a_total"):
        textfile.render([("a_total", {}, 1)], {})


def test_a_repository_that_cannot_be_read_is_told_of_and_takes_no_numbers_along() -> None:
    told = textfile.render(
        metrics.samples("main", None, {"full": result("full", False, 50)}, 5, 60), metrics.HELP
    )
    assert 'backline_backup_readable{stanza="main"} 0\n' in told
    assert 'backline_backup_job_success{stanza="main",job_name="full"} 0\n' in told
    assert "newest" not in told


def test_a_repository_without_a_backup_has_an_infinitely_old_one() -> None:
    told = textfile.render(
        metrics.samples("main", pgbackrest.Info((), "", ""), {}, 5, 60), metrics.HELP
    )
    for kind in ("any", "full"):
        wanted = f'backline_backup_newest_timestamp_seconds{{stanza="main",type="{kind}"}} 0\n'
        assert wanted in told


def test_a_differential_backup_does_not_pass_for_a_full_one() -> None:
    full = pgbackrest.Backup("f", "full", 1, 10, "", "", 100, 5, False)
    diff = pgbackrest.Backup("d", "diff", 1, 20, "", "", 100, 2, False)
    info = pgbackrest.Info((full, diff), "", "")
    told = textfile.render(metrics.samples("main", info, {}, 5, 60), metrics.HELP)
    assert 'seconds{stanza="main",type="any"} 20\n' in told
    assert 'seconds{stanza="main",type="full"} 10\n' in told
    assert "backline_backup_stored_bytes{" in told and " 7\n" in told


def test_a_job_that_never_ran_is_waited_for_since_somebody_looked(tmp_path: Path) -> None:
    since = state.since(tmp_path)
    assert since == state.since(tmp_path) and abs(since - time.time()) < 60
    told = textfile.render(metrics.samples("main", None, {"drill": None}, since, 60), metrics.HELP)
    wanted = "backline_backup_job_success_timestamp_seconds"
    assert f'{wanted}{{stanza="main",job_name="drill"}} {since}\n' in told
    assert "backline_backup_job_success{" not in told


@pytest.mark.parametrize("wanted", [True, False])
def test_a_drill_that_is_switched_off_is_not_told_of(tmp_path: Path, wanted: bool) -> None:
    state.write(tmp_path, result("drill", True, 50))
    drill = object() if wanted else None
    metrics.write(SimpleNamespace(stanza="main", state_dir=tmp_path, drill=drill))
    told = (tmp_path / "backup.prom").read_text()
    assert ('job_name="drill"' in told) == wanted and 'job_name="check"' in told


def test_a_drill_tells_what_it_compared_and_how_long_its_phases_took() -> None:
    details = {"tables": 3, "seconds": {"restore": 1.5}}
    told = textfile.render(
        metrics.samples("main", None, {"drill": result("drill", True, 50, details=details)}, 5, 60),
        metrics.HELP,
    )
    assert 'backline_backup_drill_tables{stanza="main"} 3\n' in told
    assert 'backline_backup_drill_seconds{stanza="main",phase="restore"} 1.5\n' in told


def test_the_leader_tells_how_far_its_archive_is_behind() -> None:
    told = textfile.render(archiver.samples(LEADER, 16, 60), archiver.HELP)
    for line in (
        "waiting_segments 2",
        "waiting_seconds 31.5",
        f"lag_bytes {16 * 1024**2}",
        "failed_total 1",
    ):
        assert f"\nbackline_archive_{line}\n" in told


def test_a_standby_archives_nothing_and_its_old_counters_are_not_told() -> None:
    told = textfile.render(archiver.samples(STANDBY, 16, 60), archiver.HELP)
    assert "backline_archive_primary 0\n" in told and "_total" not in told


def test_a_server_that_does_not_answer_is_told_of() -> None:
    told = textfile.render(archiver.samples(None, 16, 60), archiver.HELP)
    assert "backline_archive_readable 0\n" in told and "primary" not in told


def test_a_history_file_that_was_archived_last_is_no_position() -> None:
    told = textfile.render(
        archiver.samples({**LEADER, "last": "00000002.history"}, 16, 60), archiver.HELP
    )
    assert "lag_bytes" not in told and "backline_archive_waiting_segments 2\n" in told


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "before the moment is not there"),
        ([["after", True]], "before the moment is not there"),
        ([["before", False]], "damaged"),
        ([["before", True], ["after", True]], "after the moment is there"),
    ],
)
def test_a_recovery_to_the_wrong_moment_is_seen(rows: list[list[object]], why: str) -> None:
    with pytest.raises(BackupError, match=why):
        marker.judge(rows)


def test_a_recovery_to_the_right_moment_is_good() -> None:
    marker.judge([["before", True]])


def limits(folder: Path, seconds: float = 60, free_bytes: int = 0) -> Limits:
    return Limits(time.monotonic() + seconds, folder, free_bytes)


def test_a_program_gets_its_input_and_gives_its_output(tmp_path: Path) -> None:
    # What psql warns of must not be taken for a row, nor the folder of whoever called for one to enter.
    code = "import os, sys; print('warning', file=sys.stderr); print(input(), os.getcwd())"
    assert supervise.run([PYTHON, "-c", code], limits(tmp_path), stdin="a\n") == "a /\n"
    said = supervise.run([PYTHON, "-c", "print(input())"], limits(tmp_path), stdin="word\n")
    assert said == "word\n"


def test_a_program_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    code = "print('P00   INFO: begin'); print('P00  ERROR: [082]: no WAL'); raise SystemExit(82)"
    with pytest.raises(CommandError, match=r"failed: P00  ERROR: \[082\]: no WAL$") as failed:
        supervise.run([PYTHON, "-c", code], limits(tmp_path))
    assert failed.value.code == 82


def test_a_program_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    child = f"import time\nwhile True: print(time.time(), file=open({str(beat)!r}, 'w')); time.sleep(.05)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(BackupError, match="out of time"):
        supervise.run([PYTHON, "-c", code], limits(tmp_path, seconds=1))
    time.sleep(0.2)
    last = beat.read_text()
    time.sleep(0.3)
    assert beat.read_text() == last, "a child lived on"


def test_a_program_is_killed_before_the_disk_is_full(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="out of room"):
        supervise.run([PYTHON, "-c", "input()"], limits(tmp_path, free_bytes=10**18))


def test_a_restore_without_room_does_not_begin(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "cluster", Path("/nonexistent"), 5499, 64)
    huge = pgbackrest.Backup("f", "full", 1, 10, "", "", 10**18, 5, False)
    with pytest.raises(BackupError, match="no room"):
        scratch.restore("main", huge, [], limits(tmp_path))
    assert not scratch.folder.exists()


def test_a_scratch_server_hears_nobody_and_archives_nothing(tmp_path: Path) -> None:
    words = Scratch(tmp_path / "cluster", Path("/usr/bin"), 5499, 64)._ctl("start")
    options = words[-1]
    assert "-c listen_addresses= " in options and "-c archive_mode=off " in options
    assert f"unix_socket_directories={tmp_path}/cluster/socket" in options


def test_jobs_wait_for_each_other_and_not_for_ever(tmp_path: Path) -> None:
    with (
        locks.alone(tmp_path, 1),
        pytest.raises(BackupError, match="another job"),
        locks.alone(tmp_path, 0.1),
    ):
        pass
    with locks.alone(tmp_path, 0.1):
        pass


def test_a_restore_goes_into_no_folder_that_exists_nor_into_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    for folder in (tmp_path, tmp_path / "data", tmp_path / "data" / "new", Path("relative")):
        with pytest.raises(RefusedError):
            beside.refuse_folder(folder)
    beside.refuse_folder(tmp_path / "new")


def test_accounts_get_todays_passwords_whatever_is_in_them() -> None:
    accounts = {
        "superuser": {"username": "postgres", "password": "it's \\ 'new'"},
        "rewind": {"username": 'a "b"', "password": "x"},
    }
    made = handover.statements(accounts)
    assert "alter system reset archive_mode;" in made
    assert any("with login SUPERUSER password E'it\\'s \\\\ \\'new\\''" in sql for sql in made)
    assert any(sql.startswith("grant") and '"a ""b"""' in sql for sql in made)
    assert not any("REPLICATION" in sql for sql in made)


def test_an_account_without_a_password_is_an_error() -> None:
    with pytest.raises(BackupError, match="replication"):
        handover.statements({"replication": {"username": "replicator"}})


def test_what_the_archive_lacks_of_a_new_timeline_is_left_for_it(tmp_path: Path) -> None:
    (tmp_path / "archive_status").mkdir()
    names = ["00000001.history", "00000002.history", "archive_status"]
    segments = [
        "000000010000000000000007",
        *(f"0000000200000000000000{n:02X}" for n in (5, 6, 7, 8)),
    ]
    for name in (*names[:2], *segments):
        (tmp_path / name).touch()
    (tmp_path / "archive_status" / "000000020000000000000006.done").touch()
    left = handover.leave_for_archive(tmp_path, "000000020000000000000007", 16)
    # 7 is being written, 8 was made ahead.
    assert left == ["00000002.history", "000000020000000000000005", "000000020000000000000006"]
    assert sorted(path.name for path in (tmp_path / "archive_status").iterdir()) == [
        f"{name}.ready" for name in sorted(left)
    ]
