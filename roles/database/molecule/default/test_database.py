"""What an SRE relies on after the database role, on a cluster of one."""

import json
import shlex
import time

import pytest

PASSWORD = 'it\'s %s a "song"'
SUPERUSER_PASSWORD = "not a 'real' \"secret\""


@pytest.fixture
def address(host):
    return host.interface("eth0").addresses[0]


@pytest.fixture
def query(host, address):
    """Run SQL over TCP with a password, as an application would. Returns the result."""

    def run(sql, user="jukebox", password=PASSWORD, database="jukebox"):
        return host.run(
            f"PGCONNECT_TIMEOUT=3 PGPASSWORD={shlex.quote(password)} psql --no-psqlrc -tAc "
            f"{shlex.quote(sql)} -h {address} -U {user} {database}"
        )

    return run


def setting(host, name):
    return host.check_output(f"psql -U postgres -tAc 'show {name}'")


def wait_writable(query, seconds):
    """Return how long it took until a write succeeded; fail when it took longer than allowed."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if query("create table if not exists t(); drop table t").rc == 0:
            return time.monotonic() - start
        time.sleep(0.2)
    pytest.fail(f"no write within {seconds} s")


def test_debian_made_no_cluster_of_its_own(host):
    assert host.check_output("pg_lsclusters --no-header") == ""
    assert not host.file("/etc/postgresql/15/main").exists


def test_daemons_come_back_after_a_reboot(host):
    for unit in ("etcd", "patroni"):
        assert host.service(unit).is_running and host.service(unit).is_enabled


def test_patroni_is_one_without_the_known_split_brain_bugs(host):
    version = host.check_output("/opt/patroni/current/bin/patroni --version").split()[-1]
    assert tuple(int(part) for part in version.split(".")[:2]) >= (4, 1)
    assert host.file("/opt/patroni/current").linked_to.startswith("/opt/patroni/")
    assert not host.file("/opt/patroni/current/wheels").exists


def test_a_failover_is_decided_as_designed(host, address):
    config = json.loads(host.check_output(f"curl -fsS http://{address}:8008/config"))
    assert (config["ttl"], config["loop_wait"], config["retry_timeout"]) == (20, 2, 5)
    assert config["primary_start_timeout"] == 0
    assert config["synchronous_mode"] is False, "one host alone has nobody to wait for"
    assert host.run(f"curl -fsS http://{address}:8008/primary").rc == 0


def test_strangers_cannot_change_the_cluster(host, address):
    refused = host.run(
        f"curl -s -o /dev/null -w '%{{http_code}}' -XPATCH -d '{{\"ttl\": 60}}' "
        f"http://{address}:8008/config"
    )
    assert refused.stdout == "401"


def test_data_is_checked_and_wal_cannot_fill_the_disk(host):
    assert setting(host, "data_checksums") == "on"
    assert setting(host, "max_slot_wal_keep_size") == "8GB"
    assert setting(host, "wal_log_hints") == "on"


def test_memory_is_what_the_inventory_allows(host):
    assert setting(host, "shared_buffers") == "128MB"
    assert setting(host, "effective_cache_size") == "384MB"


def test_the_application_gets_in_and_owns_its_database(query):
    assert query("create table if not exists t(); drop table t; select 1").rc == 0


def test_a_wrong_password_is_refused(query):
    result = query("select 1", password="wrong")
    assert result.rc != 0 and "password authentication failed" in result.stderr


@pytest.mark.parametrize("user", ["postgres", "replicator", "rewind"])
def test_accounts_of_the_system_are_not_for_the_network(query, user):
    assert query("select 1", user=user, password=SUPERUSER_PASSWORD, database="postgres").rc != 0


def test_passwords_are_stored_as_scram(host):
    stored = host.check_output(
        "psql -U postgres -tAc \"select count(*) filter (where rolpassword like 'SCRAM-SHA-256$%'),"
        ' count(*) from pg_authid where rolcanlogin"'
    )
    assert stored == "4|4"


def test_secrets_are_readable_by_nobody_else(host):
    config = host.file("/etc/patroni/patroni.yml")
    assert (config.mode, config.user, config.group) == (0o640, "root", "postgres")
    assert host.file("/var/lib/etcd").mode == 0o700
    assert host.file("/var/lib/postgresql/15/music").mode == 0o700
    assert "secret" not in host.check_output("journalctl -u patroni -u etcd --no-pager")


def test_nothing_listens_to_the_whole_world(host):
    for port in (5432, 8008, 2379, 2380):
        assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening


def test_a_killed_server_comes_back_by_itself(host, query):
    host.check_output("kill -9 $(head -1 /var/lib/postgresql/15/music/postmaster.pid)")
    wait_writable(query, 60)


def test_without_patroni_nobody_is_left_to_take_writes(host, query):
    main_pid = "systemctl show -p MainPID --value patroni"
    patroni, server = (
        host.check_output(main_pid),
        host.check_output("head -1 /var/lib/postgresql/15/music/postmaster.pid"),
    )
    host.check_output(f"kill -9 {patroni}")
    for _ in range(100):
        if host.check_output(main_pid) not in (patroni, "0"):
            break
        time.sleep(0.1)
    assert not host.file(f"/proc/{server}/cmdline").exists, "PostgreSQL outlived Patroni"
    wait_writable(query, 60)
