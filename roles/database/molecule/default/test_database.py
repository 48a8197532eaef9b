"""What an SRE relies on after the database role, on a cluster of one."""

import json
import shlex
import time

import pytest

PASSWORD = 'it\'s %s a "song"'
SUPERUSER_PASSWORD = "not a 'real' \"secret\""
PKI = "/etc/backline/pki"
CERTIFICATE = f"--cert {PKI}/host.pem --key {PKI}/host.key"
DATA = "/var/lib/postgresql/15/music"


@pytest.fixture
def address(host):
    return host.interface("eth0").addresses[0]


@pytest.fixture
def query(host, address):
    """Run SQL over TCP with a password, as an application would: through PgBouncer unless told otherwise."""

    def run(sql, user="jukebox", password=PASSWORD, database="jukebox", port=6432, **more):
        settings = {"sslmode": "verify-full", "sslrootcert": f"{PKI}/ca.pem", **more}
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        return host.run(
            f"PGPASSWORD={shlex.quote(password)} psql --no-psqlrc -tAc {shlex.quote(sql)} "
            f"'host={address} port={port} dbname={database} user={user} connect_timeout=3 {words}'"
        )

    return run


@pytest.fixture
def api(host, address):
    """Ask Patroni's REST API; return the status."""

    def run(path, words=""):
        url = f"https://{address}:8008/{path}"
        return host.run(
            f"curl -sS -o /run/answer -w '%{{http_code}}' --cacert {PKI}/ca.pem {words} {url}"
        ).stdout

    return run


def superuser(host, sql, database="postgres"):
    return host.check_output(f"psql -U postgres {database} -tAc {shlex.quote(sql)}")


def setting(host, name):
    return superuser(host, f"show {name}")


def wait_writable(query, seconds):
    """Return how long it took until a write succeeded; fail when it took longer than allowed."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if query("create table if not exists t(); drop table t").rc == 0:
            return time.monotonic() - start
        time.sleep(0.2)
    return pytest.fail(f"no write within {seconds} s")


def soon(check, seconds=30):
    """Wait until a check passes; the last word is its own."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return check()
        except AssertionError:
            time.sleep(0.5)
    return check()


def test_debian_made_no_cluster_of_its_own(host):
    assert host.check_output("pg_lsclusters --no-header") == ""
    assert not host.file("/etc/postgresql/15/main").exists


def test_daemons_come_back_after_a_reboot(host):
    for unit in ("etcd", "patroni", "pgbouncer"):
        assert host.service(unit).is_running and host.service(unit).is_enabled


def test_patroni_is_one_without_the_known_split_brain_bugs(host):
    version = host.check_output("/opt/patroni/current/bin/patroni --version").split()[-1]
    assert tuple(int(part) for part in version.split(".")[:2]) >= (4, 1)
    assert host.file("/opt/patroni/current").linked_to.startswith("/opt/patroni/")
    assert not host.file("/opt/patroni/current/wheels").exists


def test_a_failover_is_decided_as_designed(host, api):
    assert api("config") == "200"
    config = json.loads(host.file("/run/answer").content_string)
    assert (config["ttl"], config["loop_wait"], config["retry_timeout"]) == (20, 2, 5)
    assert config["primary_start_timeout"] == 0 and config["failsafe_mode"] is True
    assert config["synchronous_mode"] is False, "one host alone has nobody to wait for"
    assert api("primary") == "200"


def test_a_change_of_the_cluster_takes_certificate_and_password(host, api):
    patch = "-X PATCH -d '{\"ttl\": 20}'"
    password = host.check_output(
        '/opt/patroni/current/bin/python -c "import yaml; '
        "print(yaml.safe_load(open('/etc/patroni/patroni.yml'))['restapi']['authentication']['password'])\""
    )
    assert api("config", patch) == "403"
    assert api("config", f"{patch} -u patroni:{password}") == "403"
    assert api("config", f"{patch} {CERTIFICATE}") == "401"
    assert api("config", f"{patch} {CERTIFICATE} -u patroni:{password}") == "200"
    assert host.run("patronictl -c /etc/patroni/patroni.yml list").rc == 0


def test_data_is_checked_and_wal_cannot_fill_the_disk(host):
    assert setting(host, "data_checksums") == "on"
    assert setting(host, "max_slot_wal_keep_size") == "8GB"
    assert setting(host, "wal_log_hints") == "on"


def test_archiving_can_begin_without_a_restart(host):
    assert (setting(host, "archive_mode"), setting(host, "archive_command")) == ("on", "/bin/true")
    assert setting(host, "archive_timeout") == "0"


def test_memory_is_what_the_inventory_allows(host):
    assert setting(host, "shared_buffers") == "128MB"
    assert setting(host, "effective_cache_size") == "384MB"


@pytest.mark.parametrize("port", [5432, 6432])
def test_the_application_gets_in_and_owns_its_database(query, port):
    assert query("create table if not exists t(); drop table t; select 1", port=port).rc == 0


@pytest.mark.parametrize("port", [5432, 6432])
def test_a_wrong_password_is_refused(query, port):
    result = query("select 1", password="wrong", port=port)
    assert result.rc != 0 and "auth" in result.stderr


@pytest.mark.parametrize("port", [5432, 6432])
def test_without_tls_nobody_is_let_in(query, port):
    result = query("select 1", port=port, sslmode="disable")
    assert result.rc != 0 and ("no encryption" in result.stderr or "SSL required" in result.stderr)


@pytest.mark.parametrize("port", [5432, 6432])
@pytest.mark.parametrize(
    "user", ["postgres", "replicator", "rewind", "pgbouncer", "pgbouncer_lookup"]
)
def test_accounts_of_the_system_are_not_for_the_network(query, user, port):
    for database in ("postgres", "jukebox", "pgbouncer"):
        found = query(
            "select 1", user=user, password=SUPERUSER_PASSWORD, database=database, port=port
        )
        assert found.rc != 0


def test_pg_hba_is_tls_and_scram_and_nothing_else(host):
    rules = superuser(
        host, "select distinct type || ' ' || auth_method from pg_hba_file_rules order by 1"
    )
    assert rules.splitlines() == [
        "hostssl cert",
        "hostssl reject",
        "hostssl scram-sha-256",
        "local peer",
        "local scram-sha-256",
    ]
    assert superuser(host, "select count(*) from pg_hba_file_rules where error is not null") == "0"


def test_passwords_are_stored_as_scram(host):
    stored = superuser(
        host,
        "select count(*) filter (where rolpassword like 'SCRAM-SHA-256$%'), count(rolpassword) "
        "from pg_authid",
    )
    assert stored == "5|5"


def test_roles_grants_and_extensions_are_the_inventory_s(host, query):
    assert (
        superuser(host, "select count(*) from pg_extension where extname = 'pg_trgm'", "jukebox")
        == "1"
    )
    assert query("drop table if exists charts; create table charts as select 7 as id").rc == 0
    assert query("select id from charts", user="report", password="reads").stdout.strip() == "7"
    refused = query("insert into charts values (8)", user="report", password="reads")
    assert "permission denied" in refused.stderr
    assert superuser(host, "select rolcanlogin from pg_roles where rolname = 'readers'") == "f"
    assert superuser(host, "select has_database_privilege('exporter', 'jukebox', 'connect')") == "f"


def test_what_statements_cost_is_kept_without_their_literals(host, query):
    assert query("select 'an album nobody should see'").rc == 0
    reader = "psql -h /run/postgresql -U backline_reader postgres -tAc"
    found = host.check_output(f"{reader} 'select query from pg_stat_statements'")
    assert "select $1" in found and "an album" not in found
    # The role has just set passwords.
    assert not [line for line in found.splitlines() if line.upper().startswith("ALTER USER")]


def test_an_exporter_signs_in_by_who_it_is(host):
    psql = "psql -h /run/postgresql -U exporter postgres -tAc"
    assert host.check_output(f"runuser -u daemon -- {psql} 'select 1'") == "1"
    assert host.run(f"runuser -u nobody -- {psql} 'select 1'").rc != 0


def test_operators_read_or_write_rows_and_own_nothing(host, query):
    def ask(user, statement, who=""):
        return host.run(
            f"{who} psql -h /run/postgresql -U backline_{user} jukebox -tAc %s", statement
        )

    assert query("drop table if exists tour; create table tour as select 1 as id").rc == 0
    assert ask("reader", "select id from tour").stdout.strip() == "1"
    assert "permission denied" in ask("reader", "delete from tour").stderr
    assert ask("writer", "update tour set id = 2").rc == 0
    for statement in ("drop table tour", "create table mine (id int)", "copy tour to program 'id'"):
        assert ask("writer", statement).rc != 0, statement
    assert ask("reader", "select 1", "runuser -u daemon --").rc != 0, "root alone is let in"


def test_what_hostctl_operates_by_is_root_s_alone(host):
    told = host.file("/etc/backline/database.json")
    assert (told.mode, told.user, told.group) == (0o600, "root", "root")


def test_pgbouncer_learns_what_it_needs_and_no_more(host):
    def lookup(user):
        return host.check_output(
            "runuser -u pgbouncer -- psql -h /run/postgresql jukebox -tAc "
            f"\"select count(*) from pgbouncer.lookup('{user}')\""
        )

    assert lookup("jukebox") == "1"
    for user in ("postgres", "replicator", "rewind", "readers", "nobody"):
        assert lookup(user) == "0"
    owner = "select pg_get_userbyid(proowner), prosecdef from pg_proc where proname = 'lookup'"
    assert superuser(host, owner, "jukebox") == "pgbouncer_lookup|t"
    refused = host.run(
        "runuser -u pgbouncer -- psql -h /run/postgresql jukebox -tAc 'select passwd from pg_shadow'"
    )
    assert "permission denied" in refused.stderr


def test_pgbouncer_shares_connections_as_told(host, query):
    assert query("select 1", database="sessions").rc == 0
    out = host.check_output("backline-pgbouncer show databases")
    modes = {
        words[0]: words[words.index("|", 1) :] and line
        for line in out.splitlines()
        if (words := line.split()) and words[0] in ("jukebox", "sessions")
    }
    assert "transaction" in modes["jukebox"] and "session " in modes["sessions"]
    assert query("select 1", database="postgres").rc != 0, "a database that is not in the inventory"


def test_a_reload_of_pgbouncer_drops_nobody(host, query):
    before = host.check_output("systemctl show -P MainPID pgbouncer")
    host.check_output("(sleep 1; systemctl reload pgbouncer) >/dev/null 2>&1 &")
    assert query("select pg_sleep(2); select 5").stdout.split()[-1] == "5"
    assert host.check_output("systemctl show -P MainPID pgbouncer") == before


def test_clients_wait_while_pgbouncer_is_paused_and_can_follow_another_member(host, query, address):
    host.check_output("backline-pgbouncer pause")
    host.check_output(
        f"(sleep 1; backline-pgbouncer follow {address}; backline-pgbouncer resume) >/dev/null 2>&1 &"
    )
    start = time.monotonic()
    seen = query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    assert seen.stdout.strip() == "t", seen.stderr
    assert time.monotonic() - start > 0.5
    host.check_output("backline-pgbouncer home")
    assert query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").stdout.strip() == "f"


def test_etcd_lets_patroni_touch_its_own_keys_only(host):
    etcdctl = (
        ". /etc/etcd/etcdctl.env; export ETCDCTL_API=3 ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY"
    )

    def get(key, user=""):
        words = f"ETCDCTL_USER=patroni ETCDCTL_PASSWORD={shlex.quote(user)}" if user else ""
        return host.run(
            f"{etcdctl}; {words} etcdctl --endpoints=https://127.0.0.1:2379 get --prefix --keys-only {key}"
        )

    assert get("/service/music/").rc != 0
    assert "/service/music/leader" in get("/service/music/", 'it\'s a "third"').stdout
    assert "permission denied" in get("/", 'it\'s a "third"').stderr
    assert host.run("set -a; . /etc/etcd/etcdctl.env; etcdctl user list").stdout.split() == [
        "patroni",
        "root",
    ]


def test_secrets_are_readable_by_nobody_else(host):
    config = host.file("/etc/patroni/patroni.yml")
    assert (config.mode, config.user, config.group) == (0o640, "root", "postgres")
    assert host.file("/etc/etcd/etcdctl.env").mode == 0o600
    assert host.file("/var/lib/etcd").mode == 0o700
    assert host.file(DATA).mode == 0o700
    journal = host.check_output("journalctl -u patroni -u etcd -u pgbouncer --no-pager")
    for secret in ("secret", "third", 'a "song"'):
        assert secret not in journal


def test_nothing_listens_to_the_whole_world(host):
    for port in (5432, 6432, 8008, 2379, 2380, 2381):
        assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening


def test_an_authority_s_rotation_needs_no_restart_but_etcd_s(host, query, address, api):
    """The side effect has brought the other authority in, beside the first; now its certificate."""
    strangers = "/root/strangers"
    theirs = f"--cert {strangers}/other.pem --key {strangers}/other.key"
    assert (
        host.check_output("systemctl show -P MainPID patroni pgbouncer")
        == host.file("/run/before").content_string.strip()
    )
    assert api("config", f"-X PATCH -d '{{}}' {theirs}") == "401", "it knows the certificate"
    health = f"curl -sS --cacert {PKI}/ca.pem {theirs} https://{address}:2379/health"
    assert "true" in host.check_output(health)
    host.check_output(
        f"cp {PKI}/host.pem {PKI}/host.key /run/; cat {strangers}/other.pem > {PKI}/host.pem; "
        f"cat {strangers}/other.key > {PKI}/host.key; systemctl reload patroni pgbouncer"
    )

    def theirs_is_shown():
        for port in (5432, 6432):
            seen = query("select 1", port=port, sslrootcert=f"{strangers}/other-ca.pem")
            assert seen.rc == 0, seen.stderr
        for port, path in ((8008, "primary"), (2379, "health")):
            host.check_output(
                f"curl -sS --cacert {strangers}/other-ca.pem {theirs} https://{address}:{port}/{path}"
            )

    try:
        soon(theirs_is_shown)
    finally:
        host.check_output(
            f"cat /run/host.pem > {PKI}/host.pem; cat /run/host.key > {PKI}/host.key; "
            "systemctl reload patroni pgbouncer"
        )

    def ours_is_shown():
        assert query("select 1").rc == 0

    soon(ours_is_shown)


def test_a_killed_server_comes_back_by_itself(host, query):
    host.check_output(f"kill -9 $(head -1 {DATA}/postmaster.pid)")
    wait_writable(query, 60)


def test_without_patroni_nobody_is_left_to_take_writes(host, query):
    main_pid = "systemctl show -p MainPID --value patroni"
    patroni, server = (
        host.check_output(main_pid),
        host.check_output(f"head -1 {DATA}/postmaster.pid"),
    )
    host.check_output(f"kill -9 {patroni}")
    for _ in range(100):
        if host.check_output(main_pid) not in (patroni, "0"):
            break
        time.sleep(0.1)
    assert not host.file(f"/proc/{server}/cmdline").exists, "PostgreSQL outlived Patroni"
    wait_writable(query, 60)
