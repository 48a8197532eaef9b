"""What an application relies on: writers reach the primary and nobody else, and soon after it moved."""

from __future__ import annotations

import json
import re
import time
import uuid

import pytest

WRITER, READER = 6432, 6433
CLIENT = "/usr/bin/python3 /run/standin/client.py"
# Two failed checks, a second apart, and what a busy machine takes on top.
SOON = 6


def client(host, *words):
    done = host.run(" ".join([CLIENT, *map(str, words)]))
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


def said(host, **roles):
    """What Patroni says from now on: db1="replica", …"""
    for name, role in roles.items():
        assert host.run(f"printf {role} > /run/standin/{name}.role").rc == 0


def reached(host, port, name, seconds=10):
    found = client(host, "until", port, name, seconds)
    assert found["after"] is not None, f"{port} does not lead to {name}: {found}"
    return found


class Session:
    """A connection that is held open, on the host."""

    def __init__(self, host, port):
        self.host, self.file = host, f"/run/standin/{uuid.uuid4().hex}"
        words = f"systemd-run --collect {CLIENT} hold {port} {self.file}"
        assert host.run(words).rc == 0
        while not self.state().get("spoken"):
            time.sleep(0.1)

    def state(self):
        # Between two writes the file is empty.
        text = self.host.run(f"cat {self.file}").stdout
        return json.loads(text) if text.endswith("}") else {}

    def ended(self, seconds):
        """When it did, in seconds of the host's clock."""
        deadline = time.monotonic() + seconds
        while not self.state().get("ended"):
            assert time.monotonic() < deadline, f"still open: {self.state()}"
            time.sleep(0.1)
        return self.state()["ended"]

    def goes_on(self):
        before = self.state()
        time.sleep(0.5)
        after = self.state()
        return not after.get("ended") and after["spoken"] > before.get("spoken", 0)


@pytest.fixture(autouse=True)
def db1_is_the_primary(host):
    yield
    host.run("cp /run/standin/right.pem /run/standin/db1.pem")
    said(host, db1="primary", db2="replica", db3="replica")
    for name in ("db1", "db2", "db3"):
        host.run(f"systemctl kill -s CONT patroni@{name}; systemctl start pgbouncer@{name}")
    host.run("systemctl restart patroni@db1")
    reached(host, WRITER, "db1")
    for name in ("db2", "db3"):
        reached(host, READER, name)


def test_it_runs_beside_debian_s_unit_which_does_not(host):
    ours, debians = host.service("database-proxy.service"), host.service("haproxy.service")
    assert ours.is_running and ours.is_enabled
    assert not debians.is_running and not debians.is_enabled


def test_a_hole_in_it_leads_nowhere(host):
    for unit in ("database-proxy", "database-proxy-leavers"):
        text = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -1").stdout
        exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", text)[1])
        assert exposure <= 1.8, text
    (pid,) = host.run("systemctl show --property MainPID --value database-proxy").stdout.split()
    assert host.run(f"stat -c %U /proc/{pid}").stdout.strip() == "haproxy"
    for name in ("admin", "master"):
        assert host.file(f"/run/database-proxy/{name}.sock").mode == 0o600


def test_writers_reach_the_primary_and_nobody_else(host):
    assert set(client(host, "who", WRITER, 30)) == {"db1"}


def test_readers_reach_the_replicas_and_the_primary_when_there_is_none(host):
    assert set(client(host, "who", READER, 30)) == {"db2", "db3"}
    said(host, db2="none", db3="none")
    reached(host, READER, "db1")
    assert set(client(host, "who", READER, 10)) == {"db1"}
    said(host, db3="replica")
    reached(host, READER, "db3")
    assert set(client(host, "who", READER, 10)) == {"db3"}


def test_a_new_primary_is_found_and_the_old_one_let_go_within_seconds(host):
    session = Session(host, WRITER)
    assert session.state()["with"] == "db1"
    began = float(host.run("date +%s.%N").stdout)
    said(host, db1="replica", db2="primary")
    found = reached(host, WRITER, "db2")
    ended = session.ended(10) - began
    print(f"\nnew primary after {found['after']:.1f} s, old sessions ended after {ended:.1f} s")
    assert found["after"] < SOON and ended < SOON
    assert "db3" not in found["seen"]
    assert set(client(host, "who", WRITER, 10)) == {"db2"}


def test_a_primary_without_pgbouncer_is_down(host):
    session = Session(host, WRITER)
    host.run("systemctl stop pgbouncer@db1")
    assert reached(host, WRITER, "-")["after"] < SOON
    session.ended(SOON)
    time.sleep(3)
    assert client(host, "who", WRITER) == ["-"]
    host.run("systemctl start pgbouncer@db1")
    assert reached(host, WRITER, "db1")["after"] < SOON


@pytest.mark.parametrize("certificate", ["stranger", "namesake", "expired"])
def test_whoever_is_not_who_he_should_be_is_down(host, certificate):
    """Patroni says that it is the primary: signed by another CA, as another host, too late."""
    host.run(f"cp /run/standin/{certificate}.pem /run/standin/db1.pem")
    host.run("systemctl restart patroni@db1")
    reached(host, WRITER, "-")
    time.sleep(2)
    assert client(host, "who", WRITER, 3) == ["-", "-", "-"]


def test_a_patroni_that_hangs_is_down(host):
    host.run("systemctl kill -s STOP patroni@db1")
    found = reached(host, WRITER, "-", 15)
    print(f"\nout after {found['after']:.1f} s")
    assert found["after"] < 8


def test_a_start_sends_nobody_to_a_replica(host):
    for _ in range(3):
        host.run("systemctl restart database-proxy")
        found = reached(host, WRITER, "db1")
        assert set(found["seen"]) <= {"-"}, found
        assert found["after"] < SOON


def test_a_reload_refuses_nobody_cuts_nobody_and_misleads_nobody(host):
    session = Session(host, WRITER)
    words = f"systemd-run --collect --wait --pipe --unit=load {CLIENT} load {WRITER} 6"
    host.run(f"({words}) > /run/standin/load.json 2>/dev/null &")
    for _ in range(4):
        time.sleep(1)
        assert host.run("systemctl reload database-proxy").rc == 0
        assert host.run("/usr/local/lib/backline/database-proxy loaded").rc == 0
    time.sleep(3)
    text = host.file("/run/standin/load.json").content_string
    found = json.loads(text)
    print(f"\n{found}")
    assert found["connections"] > 500
    assert found["nobody"] == 0 and found["names"] == ["db1"]
    assert session.goes_on()


def test_a_connection_of_an_old_worker_ends_with_its_primary_too(host):
    """HAProxy's old worker checks nobody: without help it would hold on to the old primary."""
    session, reader = Session(host, WRITER), Session(host, READER)
    host.run("systemctl reload database-proxy")
    time.sleep(1)
    assert session.goes_on() and reader.goes_on()
    began = float(host.run("date +%s.%N").stdout)
    said(host, db1="none", db2="primary" if reader.state()["with"] == "db3" else "replica")
    after = session.ended(6) - began
    print(f"\nended after {after:.1f} s")
    assert after < 4
    assert reader.goes_on(), "one that is still good was ended as well"
    log = host.run("journalctl -u database-proxy-leavers --no-pager -o cat").stdout
    assert "ended its connections to primary/db1" in log


def test_the_monitor_hears_who_is_up(host):
    (address,) = host.run("hostname -I").stdout.split()[:1]
    text = host.run("curl -s http://127.0.0.1:8405/metrics").stdout
    assert 'haproxy_server_status{proxy="primary",server="db1",state="UP"} 1' in text
    assert 'haproxy_server_status{proxy="primary",server="db2",state="DOWN"} 1' in text
    ask = f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}:8405/metrics"
    assert host.run(ask).stdout == "403"


def test_the_journal_tells_of_connections_and_of_servers(host):
    client(host, "who", WRITER)
    log = host.run("journalctl -u database-proxy --no-pager -o cat").stdout
    assert re.search(r"writer primary/db1 \d+/\d+/\d+", log)
    assert "Server primary/db1 is DOWN" in log
