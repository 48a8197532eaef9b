"""What an SRE relies on after the database role, on a cluster of three that grew from one and lost a host."""

import json
import subprocess
import time

import pytest
import testinfra

NAMES = [f"mol-database-three{number}" for number in (1, 2, 3)]
PKI = "/etc/backline/pki"
CURL = f"curl -sS --max-time 5 --cacert {PKI}/ca.pem"
CERTIFICATE = f"--cert {PKI}/host.pem --key {PKI}/host.key"
STRANGER = "--cert /root/strangers/other.pem --key /root/strangers/other.key"
EXPIRED = f"--cert /root/strangers/expired.pem --key {PKI}/host.key"

# Notes every 0.2 s whether this host takes writes: when it asked, when it was told, and the answer.
WATCH = """
while true; do
  a=$(date +%s.%N)
  b=$(psql -U postgres -tAc 'select not pg_is_in_recovery()' 2>/dev/null)
  echo "$a $(date +%s.%N) ${b:-f}"
  sleep 0.2
done > /run/watch
"""


@pytest.fixture(scope="module")
def hosts():
    return {name: testinfra.get_host(f"podman://{name}") for name in NAMES}


@pytest.fixture(scope="module")
def addresses(hosts):
    return {name: host.interface("eth0").addresses[0] for name, host in hosts.items()}


@pytest.fixture(scope="module")
def sql(hosts, addresses):
    """Run SQL as an application: over PgBouncer, verified, on whichever host takes writes."""

    def run(statement, settings="", port=6432, at=None):
        where = addresses[at] if at else ",".join(addresses.values())
        words = (
            f"host={where} port={port} dbname=jukebox user=jukebox password=song connect_timeout=2 "
            f"sslmode=verify-full sslrootcert={PKI}/ca.pem "
            f"target_session_attrs={'any' if at else 'read-write'} {settings}"
        )
        return hosts[NAMES[0]].run("psql --no-psqlrc -tAc %s %s", statement, words)

    return run


def cluster(hosts):
    """What Patroni says of its members, by name."""
    out = hosts[NAMES[0]].check_output("patronictl -c /etc/patroni/patroni.yml list -f json")
    return {member["Member"]: member for member in json.loads(out)}


def leader(hosts):
    return next(name for name, member in cluster(hosts).items() if member["Role"] == "Leader")


def settled(hosts, seconds=60):
    """Wait until there is a leader, a synchronous standby and a replica, all of them in step."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        members = cluster(hosts).values()
        states = sorted((member["Role"], member["State"]) for member in members)
        if states == [
            ("Leader", "running"),
            ("Replica", "streaming"),
            ("Sync Standby", "streaming"),
        ]:
            return
        time.sleep(0.5)
    pytest.fail(f"not settled within {seconds} s: {list(members)}")


def until_written(sql, row):
    """Seconds until a row is acknowledged.

    PostgreSQL is asked itself: a PgBouncer goes on saying of its server what was so when it connected.
    Applications have a proxy that follows Patroni.
    """
    start = time.monotonic()
    while time.monotonic() - start < 60:
        if sql(f"insert into plays values ({row})", port=5432).rc == 0:
            return time.monotonic() - start
    return pytest.fail("no write within 60 s")


@pytest.fixture(scope="module")
def watched(hosts):
    """Watch who takes writes, all through the tests of this file."""
    for name in NAMES:
        subprocess.run(["podman", "exec", "-d", name, "sh", "-c", WATCH], check=True)
    yield
    for host in hosts.values():
        host.run("pkill -f /run/watch")


def writable_spans(host):
    """(begin, end) of the times at which a host certainly took writes."""
    spans, begin, last = [], None, None
    for line in host.file("/run/watch").content_string.splitlines():
        asked, told, answer = line.split()
        if answer == "t":
            begin = float(told) if begin is None else begin
            last = float(asked)
        elif begin is not None:
            spans.append((begin, last))
            begin = None
    return [*spans, (begin, last)] if begin is not None else spans


@pytest.mark.parametrize("port", [5432, 6432])
def test_clients_without_tls_are_refused(sql, port):
    refused = sql("select 1", "sslmode=disable", port)
    assert refused.rc != 0 and (
        "no encryption" in refused.stderr or "SSL required" in refused.stderr
    )
    assert sql("select 1", port=port).stdout.strip() == "1"


@pytest.mark.parametrize("port", [5432, 6432])
def test_servers_are_not_trusted_by_another_authority(sql, port):
    refused = sql("select 1", "sslrootcert=/root/strangers/other-ca.pem", port)
    assert refused.rc != 0 and "certificate verify failed" in refused.stderr


def test_etcd_answers_nobody_without_the_right_certificate(hosts, addresses):
    for address in addresses.values():
        for port in (2379, 2380, 2381):
            for who in ("", STRANGER, EXPIRED):
                refused = hosts[NAMES[0]].run(f"{CURL} {who} https://{address}:{port}/health")
                assert refused.rc != 0, (port, who)
        assert '"true"' in hosts[NAMES[0]].check_output(
            f"{CURL} {CERTIFICATE} https://{address}:2379/health"
        )


def test_etcd_s_keys_are_patroni_s_alone(hosts, addresses):
    def keys(who, key):
        return hosts[NAMES[0]].run(
            f". /etc/etcd/etcdctl.env; export ETCDCTL_API=3 ETCDCTL_CACERT ETCDCTL_CERT ETCDCTL_KEY; {who} "
            f"etcdctl --endpoints=https://{addresses[NAMES[1]]}:2379 get --keys-only --prefix {key}"
        )

    assert keys("", "/service/music/").rc != 0, "without a user"
    assert "/service/music/leader" in keys("ETCDCTL_USER=patroni:etcd", "/service/music/").stdout
    assert "permission denied" in keys("ETCDCTL_USER=patroni:etcd", "/").stderr


def test_etcd_has_three_votes(hosts, addresses):
    for address in addresses.values():
        found = json.loads(
            hosts[NAMES[0]].check_output(
                f"{CURL} {CERTIFICATE} -d '{{}}' https://{address}:2379/v3/cluster/member/list"
            )
        )["members"]
        assert sorted(member["name"] for member in found) == NAMES
        assert not any(member.get("isLearner") for member in found)


def etcd_leader(hosts):
    """Who leads etcd; only the leader itself calls its own number the leader's."""
    for name in NAMES:
        said = etcdctl(hosts, name, "endpoint status --write-out simple").split(", ")
        if said[4] == "true":
            return name, said[1]
    return pytest.fail("etcd has no leader")


def etcdctl(hosts, name, words):
    return hosts[name].check_output(
        f"set -a; . /etc/etcd/etcdctl.env; ETCDCTL_ENDPOINTS=${{ETCDCTL_ENDPOINTS%%,*}} etcdctl {words}"
    )


def test_etcd_is_led_by_another_host_than_the_database(hosts):
    """Or the death of that host costs an election and a whole lease more."""
    settled(hosts)
    name = leader(hosts)
    number = etcdctl(hosts, name, "endpoint status --write-out simple").split(", ")[1]
    before, _ = etcd_leader(hosts)
    if before != name:
        for other in NAMES:
            if other != name:
                hosts[other].check_output("systemctl start backline-etcd-apart")
        assert etcd_leader(hosts)[0] == before, (
            "a member that does not lead the database kept its hands off"
        )
        etcdctl(hosts, before, f"move-leader {number}")
    hosts[name].check_output("systemctl start backline-etcd-apart")
    assert etcd_leader(hosts)[0] != name
    assert hosts[name].service("backline-etcd-apart.timer").is_running


def test_rows_from_before_it_grew_are_on_every_host(hosts):
    settled(hosts)
    for host in hosts.values():
        assert host.check_output("psql -U postgres jukebox -tAc 'select min(id) from plays'") == "1"


def test_replicas_copy_over_tls(hosts):
    name = leader(hosts)
    found = hosts[name].check_output(
        'psql -U postgres -tAc "select bool_and(ssl), count(*) from pg_stat_replication '
        "join pg_stat_ssl using (pid) where usename = 'replicator'\""
    )
    assert found == "t|2"
    replica = next(host for other, host in hosts.items() if other != name)
    assert "sslmode=verify-full" in replica.check_output(
        "psql -U postgres -tAc 'show primary_conninfo'"
    )


def test_a_planned_switchover(hosts, sql, watched):
    settled(hosts)
    before = leader(hosts)
    target = next(n for n, member in cluster(hosts).items() if member["Role"] == "Sync Standby")
    hosts[NAMES[0]].check_output(
        f"patronictl -c /etc/patroni/patroni.yml switchover --leader {before} --candidate {target} --force"
    )
    assert until_written(sql, 2) < 20
    settled(hosts)
    assert leader(hosts) == target


def test_writes_are_back_soon_after_postgresql_was_killed(hosts, sql, watched):
    settled(hosts)
    before = leader(hosts)
    hosts[before].check_output("kill -9 $(head -1 /var/lib/postgresql/15/music/postmaster.pid)")
    seconds = until_written(sql, 3)
    assert seconds < 30, seconds
    settled(hosts, 90)
    assert leader(hosts) != before, "it had to wait for the crashed one"


def test_no_row_was_lost_and_never_did_two_take_writes(hosts, sql, watched):
    assert sql("select count(distinct id) from plays", port=5432).stdout.strip() == "3"
    spans = sorted((span, name) for name in NAMES for span in writable_spans(hosts[name]))
    assert len({name for _, name in spans}) >= 2, spans
    for (one, first), (two, second) in zip(spans, spans[1:], strict=False):
        assert first == second or one[1] < two[0], (first, one, second, two)
