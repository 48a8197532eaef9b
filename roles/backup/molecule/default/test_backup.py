"""What an SRE relies on when the database is gone: real backups, real damage, real recoveries."""

from __future__ import annotations

import json
import re
import time

import pytest
import testinfra

BACKUP = testinfra.get_host("podman://mol-backup")
DB = testinfra.get_host("podman://mol-backup-db")
REPOSITORY = "/srv/repository"
STATE = "/var/lib/backline-backup"
PASSPHRASE = "a passphrase of more than twenty characters"
PROGRAM = "runuser -u postgres -- /usr/local/lib/backline/backup"


def sql(text, database="music", options=""):
    return DB.check_output(f"psql -XAtq -U postgres {options} -d {database} -c %s", text)


def job(name):
    """Runs a job as its timer does; returns what it left in its state file."""
    done = BACKUP.run(f"systemctl start backline-backup@{name}")
    state = json.loads(BACKUP.check_output(f"cat {STATE}/{name}.json"))
    assert state["good"] == (done.rc == 0), (done, state)
    return state


def metrics(host, name):
    return host.check_output(f"cat /var/lib/prometheus/node-exporter/{name}.prom")


def wait_for(what, seconds, check):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.5)


def archive_metrics():
    DB.check_output("systemctl start backline-archive-metrics")
    told = metrics(DB, "backline_archive")
    return {line.split()[0]: float(line.split()[1]) for line in told.splitlines() if line[0] != "#"}


@pytest.fixture
def flipped():
    """Flips a byte in the middle of a file of the repository, and back afterwards."""
    done = []

    def flip(path):
        half = int(BACKUP.check_output(f"stat -c %s {path}")) // 2
        program = (
            "import sys; f = open(sys.argv[1], 'r+b'); at = int(sys.argv[2]); f.seek(at);"
            " byte = f.read(1)[0]; f.seek(at); f.write(bytes([byte ^ 1]))"
        )
        BACKUP.check_output("python3 -c %s %s %s", program, path, str(half))

    def once(path):
        flip(path)
        done.append(path)

    yield once
    for path in done:
        flip(path)


def test_the_passphrase_is_on_one_host_in_one_file():
    secrets = BACKUP.file("/etc/pgbackrest/conf.d/secrets.conf")
    assert (secrets.mode, secrets.user, secrets.group) == (0o640, "root", "postgres")
    for host in (BACKUP, DB):
        found = host.run(
            f"grep -rlF {PASSPHRASE!r} /etc /usr/local /var/lib/backline-backup /var/log /run/systemd"
        ).stdout.split()
        assert found == ([secrets.path] if host is BACKUP else [])
    assert PASSPHRASE not in BACKUP.check_output(
        "journalctl --no-pager | grep -v 'tests are looking'"
    )
    password = BACKUP.file("/etc/backline/backup.pgpass")
    assert (password.mode, password.user) == (0o600, "postgres")


def test_daemons_and_timers_come_back_after_a_reboot():
    for host in (BACKUP, DB):
        assert host.service("pgbackrest-server").is_running
        assert host.service("pgbackrest-server").is_enabled
    for name in ("full", "diff", "check", "verify", "drill", "metrics"):
        assert BACKUP.service(f"backline-backup-{name}.timer").is_running
        assert BACKUP.service(f"backline-backup-{name}.timer").is_enabled
    assert DB.service("backline-archive-metrics.timer").is_enabled
    assert "main" not in BACKUP.check_output("pg_lsclusters --no-header"), "Debian made a cluster"


@pytest.mark.parametrize(
    "name", ["pgbackrest-server", "backline-backup@full", "backline-backup@drill"]
)
def test_a_hole_in_it_leads_nowhere(name):
    said = BACKUP.check_output(f"systemd-analyze security --no-pager {name}.service | tail -1")
    assert float(said.split("exposure level for", 1)[1].split(":", 1)[1].split()[0]) <= 2.0, said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            "--repo1-host-cert-file=/tmp/s/other.pem --repo1-host-key-file=/tmp/s/other.key",
            "unknown ca",
        ),
        ("--repo1-host-cert-file=/tmp/s/expired.pem", "certificate expired"),
        ("--repo1-host-ca-file=/tmp/s/other-ca.pem", "unable to verify certificate"),
        # A certificate of ours, of a host that has no business there; and another cluster's backups.
        ("--repo1-host=mol-backup-db", "access denied"),
        ("--stanza=other", "access denied"),
    ],
)
def test_who_has_not_the_right_certificate_is_refused(words, why):
    DB.check_output("mkdir -p /tmp/s && cp /root/strangers/* /tmp/s/ && chown -R postgres /tmp/s")
    DB.check_output("chmod 600 /tmp/s/*")
    ask = f"--stanza=main {words}" if "--stanza" not in words else words
    said = DB.check_output(f"runuser -u postgres -- pgbackrest {ask} --output=json info")
    assert why in said and json.loads(said)[0]["backup"] == []


def test_the_first_backup_was_made_by_itself_and_is_encrypted():
    wait_for("the first backup", 60, lambda: BACKUP.file(f"{STATE}/full.json").exists)
    info = json.loads(
        DB.check_output("runuser -u postgres -- pgbackrest --stanza=main info --output=json")
    )
    assert info[0]["status"]["code"] == 0 and info[0]["cipher"] == "aes-256-cbc"
    assert [backup["type"] for backup in info[0]["backup"]] == ["full"]
    files = BACKUP.check_output(f"find {REPOSITORY} -type f").split()
    plain = [path for path in files if BACKUP.run(f"head -c 6 {path} | grep -q Salted").rc != 0]
    assert files and plain == []


def test_a_differential_backup_comes_on_top():
    state = job("diff")
    assert state["details"]["label"].endswith("D")
    told = metrics(BACKUP, "backline_backup")
    assert 'backline_backup_backups{stanza="main"} 2' in told
    assert 'backline_backup_job_success{stanza="main",job_name="diff"} 1' in told


def test_the_way_of_wal_is_checked_and_told():
    before = archive_metrics()
    assert job("check")["good"]
    after = archive_metrics()
    assert after["backline_archive_primary"] == after["backline_archive_enabled"] == 1
    assert after["backline_archive_archived_total"] > before["backline_archive_archived_total"]
    assert after["backline_archive_waiting_segments"] == 0
    assert after["backline_archive_lag_bytes"] < 16 * 1024**2


def test_the_repository_is_verified():
    assert job("verify")["details"]["backups"] == 2


def test_the_drill_is_green_while_others_write():
    statements = (
        "insert into plays (song) select 1 from generate_series(1, 50);"
        " update songs set title = title where id % 500 = 0; delete from plays where id % 7 = 0"
    )
    writer = f"while :; do psql -XAtq -U postgres -d music -c '{statements}'; done"
    DB.check_output("systemd-run --unit=writer sh -c %s", writer)
    try:
        state = job("drill")
    finally:
        DB.check_output("systemctl stop writer")
    assert state["good"], state
    # The marker's table, songs, plays, the odd one and the empty one.
    assert state["details"]["tables"] == 5 and state["details"]["pieces"] >= 3
    assert set(state["details"]["seconds"]) >= {
        "leader",
        "archive",
        "verify",
        "restore",
        "recovery",
        "amcheck",
    }
    told = metrics(BACKUP, "backline_backup")
    assert 'backline_backup_job_success{stanza="main",job_name="drill"} 1' in told
    assert 'backline_backup_drill_tables{stanza="main"} 5' in told


def test_the_drill_leaves_nothing_behind():
    assert BACKUP.check_output(f"ls -A {STATE}/drill") == ""
    # What the side effect restored still runs.
    servers = BACKUP.check_output("pgrep -af bin/postgres | grep -v look/data || true")
    assert servers == ""


def look(words):
    """Asks the copy that the side effect has restored."""
    socket = f"-h {STATE}/look/socket -p 5498 -U postgres"
    return BACKUP.check_output(f"runuser -u postgres -- psql -XAt {socket} -d music -c %s", words)


def test_by_hand_the_first_row_is_there_and_the_second_is_not():
    rows = look("select title from songs where title like '%the moment'")
    assert rows == "before the moment"
    assert sql("select count(*) from songs where title like '%the moment'") == "2"
    listens = BACKUP.check_output("ss -Hltnp | grep postgres || true")
    assert listens == "", "a restored copy must not be reached by anybody"
    assert look("show archive_mode") == "off"


def test_a_restored_copy_is_made_fit_to_take_over_and_dropped():
    accounts = json.dumps(
        {
            "superuser": {"username": "postgres", "password": "new"},
            "replication": {"username": 'it\'s a "replica"', "password": "it's \\ new"},
        }
    )
    done = BACKUP.run(f"printf %s %s | {PROGRAM} hand-over {STATE}/look", "%s", accounts)
    assert done.rc == 0, done
    handed = json.loads(done.stdout)
    assert handed["timeline"] == 2
    assert "00000002.history" in handed["left_for_archive"]
    status = BACKUP.check_output(f"ls {STATE}/look/data/pg_wal/archive_status")
    assert "00000002.history.ready" in status
    settings = BACKUP.check_output(f"cat {STATE}/look/data/postgresql.auto.conf")
    assert "archive_mode" not in settings and "restore_command" not in settings
    BACKUP.check_output(f"{PROGRAM} drop {STATE}/look")
    assert not BACKUP.file(f"{STATE}/look").exists


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--to=2026-11-26", "no time with date and zone"),
        ("--to=2001-01-01T00:00:00Z", "before the oldest backup"),
        ("--to=2999-01-01T00:00:00Z", "in the future"),
        ("--to=newest --timeline=no", "no timeline"),
    ],
)
def test_what_cannot_be_restored_is_refused_before_anything_is_touched(words, why):
    for host in (BACKUP, DB):
        done = host.run(f"{PROGRAM} restore /var/lib/postgresql/look {words}")
        assert done.rc == 6 and why in done.stderr, done
        assert not host.file("/var/lib/postgresql/look").exists


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        (f"{STATE}/drill", "exists"),
        ("/var/lib/postgresql/15/main/look", "cluster's data folder"),
        ("/nowhere/look", "does not exist"),
        ("look", "no absolute path"),
    ],
)
def test_a_folder_that_holds_something_is_refused(folder, why):
    host = DB if "15/main" in folder else BACKUP
    done = host.run(f"{PROGRAM} restore {folder}")
    assert done.rc == 6 and why in done.stderr, done
    assert BACKUP.run(f"{PROGRAM} drop /var/lib/backline-backup").rc == 6


def newest_file(pattern):
    files = f"find {REPOSITORY} -type f -path '*{pattern}' -printf '%T@ %p\\n'"
    return BACKUP.check_output(f"{files} | sort -n | tail -1").split()[1]


# pgBackRest's own verify reads no more than the first two kinds. Whether what it finds there is another
# checksum or nothing that can be unpacked depends on the byte.
KINDS = {
    "backup/main/*F/bundle/*": r"invalid (checksum|result|size) '?[0-9-]+F/pg_data/",
    "archive/main/15-1/*.zst": r"invalid (checksum|result|size) '?15-1/",
    "archive/main/archive.info.copy": "archive.info and its copy differ",
    "backup/main/backup.info": "backup.info and its copy differ",
    "*F/backup.manifest.copy": "backup.manifest and its copy differ",
    "archive/main/15-1/*.backup": "is no text",
    "backup.history/*.manifest.gz": "does not unpack",
}


def test_a_byte_that_is_flipped_in_any_kind_of_file_is_found(flipped):
    for pattern in KINDS:
        flipped(newest_file(pattern))
    state = job("verify")
    assert not state["good"]
    unseen = [why for why in KINDS.values() if not re.search(why, state["why"])]
    assert not unseen, (unseen, state["why"])
    assert 'job_success{stanza="main",job_name="verify"} 0' in metrics(BACKUP, "backline_backup")


def test_a_byte_of_the_repository_that_is_flipped_makes_the_drill_red(flipped):
    flipped(newest_file("backup/main/*F/bundle/*"))
    state = job("drill")
    assert not state["good"] and state["phase"] == "verify", state
    assert 'job_success{stanza="main",job_name="drill"} 0' in metrics(BACKUP, "backline_backup")
    assert state["succeeded"] > 0, "when it was last good must be known"


def test_wal_that_is_missing_makes_the_drill_red_and_is_named():
    # Three segments after the newest backup; the middle one is lost.
    for _ in range(3):
        sql("insert into plays (song) values (2)")
        assert job("check")["good"]
    folder = f"{REPOSITORY}/archive/main/15-1/0000000100000000"
    lost = BACKUP.check_output(f"ls {folder}/*-*.zst | tail -2 | head -1")
    BACKUP.check_output(f"mv {lost} /root/")
    try:
        state = job("drill")
        assert not state["good"] and lost.rpartition("/")[2][:24] in state["why"], state
    finally:
        BACKUP.check_output(f"cp -p /root/{lost.rpartition('/')[2]} {folder}/")


def test_a_repository_that_is_full_makes_the_drill_red_and_everything_catches_up_without_hands():
    BACKUP.check_output(f"dd if=/dev/zero of={REPOSITORY}/ballast bs=64k status=none || true; sync")
    try:
        state = job("drill")
        assert not state["good"] and state["phase"] == "archive", state
        told = archive_metrics()
        assert told["backline_archive_waiting_segments"] > 0
        assert (
            told["backline_archive_failed_timestamp_seconds"]
            > told["backline_archive_archived_timestamp_seconds"]
        )
        assert sql("insert into plays (song) values (3) returning song") == "3", "writes go on"
    finally:
        BACKUP.check_output(f"rm {REPOSITORY}/ballast")
    # The next segment wakes the archiver; else it tries again by itself within a minute.
    sql("select pg_switch_wal()")
    wait_for("the archive", 70, lambda: archive_metrics()["backline_archive_waiting_segments"] == 0)
    state = job("drill")
    assert state["good"], state


def test_the_drill_stops_before_it_fills_a_disk():
    settings = "/etc/backline/backup.json"
    BACKUP.check_output(f"cp {settings} /root/backup.json")
    BACKUP.check_output(f'sed -i \'s/"free_mb": [0-9]*/"free_mb": 99999999/\' {settings}')
    try:
        state = job("drill")
    finally:
        BACKUP.check_output(f"cp /root/backup.json {settings}")
    assert not state["good"] and "room" in state["why"], state
    assert BACKUP.check_output(f"ls -A {STATE}/drill") == ""


def test_a_drill_that_is_killed_leaves_nothing_behind():
    BACKUP.check_output("systemctl start --no-block backline-backup@drill")
    wait_for("the scratch server", 60, lambda: BACKUP.file(f"{STATE}/drill/cluster/data").exists)
    BACKUP.check_output("systemctl kill --signal=KILL backline-backup@drill")
    wait_for("the removal", 20, lambda: BACKUP.check_output(f"ls -A {STATE}/drill") == "")
