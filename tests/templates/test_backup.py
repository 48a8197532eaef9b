"""What pgBackRest and the program are told, on either kind of host, with a folder or with S3."""

from __future__ import annotations

import configparser
import json
from typing import Any

from backline_backup import settings

from tests.templates.test_templates import render

SECRETS = ("a passphrase of twenty characters", "s3-secret", "drill-password")
TLS = {"ca": "/pki/ca.pem", "certificate": "/pki/host.pem", "key": "/pki/host.key", "group": "pki"}
S3 = {
    "endpoint": "s3.example.com",
    "bucket": "music",
    "region": "eu",
    "key": "AK",
    "secret": SECRETS[1],
}


def text(template: str, kind: str = "repository", **more: Any) -> str:
    known: dict[str, Any] = {
        "inventory_hostname": "backup1" if kind == "repository" else "db2",
        "backup_kind": kind,
        "backup_address": "198.51.100.81",
        "backup_repository_name": "backup1",
        "backup_members": ["db1", "db2", "db3"],
        "backup_stanza": "jukebox",
        "backup_tls": TLS,
    }
    if kind == "repository":
        known |= {"backup_passphrase": SECRETS[0], "backup_drill_password": SECRETS[2]}
    return render("backup", template, **{**known, **more})


def config(template: str, kind: str = "repository", **more: Any) -> dict[str, dict[str, list[str]]]:
    """Section → option → values, of which some have many."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in text(template, kind, **more).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(section, {}).setdefault(name, []).append(value)
    return found


def test_the_repository_finds_who_leads_among_all_members() -> None:
    read = config("pgbackrest.conf.j2")
    stanza = read["jukebox"]
    assert [stanza[f"pg{n}-host"] for n in (1, 2, 3)] == [["db1"], ["db2"], ["db3"]]
    assert {stanza[f"pg{n}-host-type"][0] for n in (1, 2, 3)} == {"tls"}
    assert stanza["pg3-path"] == ["/var/lib/postgresql/15/jukebox"]
    assert read["global"]["backup-standby"] == ["y"]
    assert read["global"]["tls-server-auth"] == ["db1=jukebox", "db2=jukebox", "db3=jukebox"]


def test_a_single_member_is_its_own_source() -> None:
    assert "backup-standby" not in config("pgbackrest.conf.j2", backup_members=["db1"])["global"]


def test_a_database_host_lets_in_the_repository_alone_and_knows_no_other_member() -> None:
    read = config("pgbackrest.conf.j2", "database")
    assert read["global"]["tls-server-auth"] == ["backup1=jukebox"]
    assert [
        name for name in read["jukebox"] if name.startswith("pg2") or name.endswith("host")
    ] == []
    repository = config("repository.conf.j2", "database")["global"]
    assert repository["repo1-host"] == ["backup1"] and repository["repo1-host-type"] == ["tls"]
    assert not any("cipher" in name or "s3" in name for name in repository)


def test_wal_is_never_dropped_and_pushed_one_after_the_other() -> None:
    for kind in ("database", "repository"):
        for template in ("pgbackrest.conf.j2", "repository.conf.j2"):
            assert "archive-push-queue-max" not in text(template, kind)
            assert "archive-async" not in text(template, kind)


def test_secrets_are_in_the_file_of_secrets_and_nowhere_else() -> None:
    more = {"backup_repository_type": "s3", "backup_s3": S3}
    secrets = text("secrets.conf.j2", **more)
    assert SECRETS[0] in secrets and SECRETS[1] in secrets
    for template in (
        *("pgbackrest.conf.j2", "repository.conf.j2", "restore.conf.j2", "backup.json.j2"),
        *("pgbackrest-server.service.j2", "backline-backup@.service.j2", "drill.conf.j2"),
    ):
        assert not any(secret in text(template, **more) for secret in SECRETS), template


def test_a_repository_in_a_folder_is_encrypted_and_kept_as_long_as_said() -> None:
    read = config("repository.conf.j2", backup_keep_full=2)["global"]
    assert read["repo1-path"] == ["/var/lib/pgbackrest"] and "repo1-type" not in read
    assert read["repo1-cipher-type"] == ["aes-256-cbc"]
    assert read["repo1-retention-full"] == ["2"] and read["repo1-retention-diff"] == ["14"]


def test_a_repository_in_a_bucket() -> None:
    more = {"backup_repository_type": "s3", "backup_repository_path": "/production"}
    read = config("repository.conf.j2", **more, backup_s3={**S3, "port": 9000, "uri_style": "path"})
    own = {name: value[0] for name, value in read["global"].items()}
    assert own["repo1-type"] == "s3" and own["repo1-path"] == "/production"
    assert (own["repo1-s3-bucket"], own["repo1-s3-endpoint"]) == ("music", "s3.example.com")
    assert (own["repo1-s3-uri-style"], own["repo1-storage-port"]) == ("path", "9000")
    # Nothing of it is written here.
    unit = text("backline-backup@.service.j2", **more, backup_s3=S3)
    assert "ReadWritePaths" not in unit


def test_restores_beside_know_no_member() -> None:
    assert list(config("restore.conf.j2")["jukebox"]) == ["pg1-path"]


def test_the_program_reads_what_the_role_writes() -> None:
    for kind in ("repository", "database"):
        read = settings.parse(json.loads(text("backup.json.j2", kind)))
        assert read.stanza == "jukebox" and str(read.bin_dir) == "/usr/lib/postgresql/15/bin"
        assert (read.drill is not None) == (kind == "repository")
    drill = settings.parse(json.loads(text("backup.json.j2"))).drill
    assert drill and drill.login["PGHOST"] == "db1,db2,db3"
    assert drill.login["PGTARGETSESSIONATTRS"] == "read-write"
    assert drill.login["PGSSLMODE"] == "verify-full"


def test_a_timer_starts_its_job_and_makes_up_for_what_was_missed() -> None:
    item = {"name": "verify", "schedule": "daily", "spread": "15min"}
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text("backline-backup.timer.j2", item=item))
    assert unit["Timer"]["Unit"] == "backline-backup@verify.service"
    assert unit["Timer"]["OnCalendar"] == "daily" and unit["Timer"]["Persistent"] == "yes"
