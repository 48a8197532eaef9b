"""The emergencies of docs/runbooks, for real, each mended by its page's own commands as they stand there.

Each test follows the parts of a page that its decorator names, and fails when a command of them does not
end as the page says. What then counts is not what they say: listeners hear music, and plays are counted.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from backline.lab import files
from backline.lab.fleet import host_key
from backline.lab.listener import Listener
from backline.lab.machine import podman
from backline.lab.secrets import ssh_key
from tests.chaos import ending, expired
from tests.chaos.ending import SONG, answers, logs_in, release_of, serves
from tests.chaos.test_services import health
from tests.data import cluster, faults
from tests.data.cluster import inside
from tests.data.conftest import data, podman_as_the_lab_has_it, whole
from tests.data.remote import wait_until
from tests.data.test_broker import brokers, whole_brokers
from tests.data.test_maintenance import prints
from tests.data.trial import Jobs, Trial
from tests.fleet.test_night import SPOILED, web_dies
from tests.live import Fleet, run
from tests.reading import Page, follows
from tests.releases import build_kind
from tests.rollout.runs import QUICK, Fab, live

__all__ = ["brokers", "data", "podman_as_the_lab_has_it", "whole"]

SIZE = "full"
LATE_S = 120.0
MENDING = "We are mending it."


@pytest.fixture(autouse=True)
def tidy(fleet: Fleet) -> Iterator[None]:
    """Before and after an emergency there is none: what other tests left, and this one, is gone."""
    ending.no_dead_letters(fleet)
    serves(fleet)
    yield
    run("fab", "maintenance.off", "--env", fleet.env, expect=None)


# A bad release.


@follows("bad-release", "First command", "3", "4", "6", "7", "It is over when", "Write down")
def test_a_release_that_turned_bad_goes(fleet: Fleet, page: Page) -> None:
    """It is well when it is rolled out, and breaks on all hosts later; one of them is down by then."""
    good, streams, listener = release_of(fleet), fleet.hosts("streaming"), fleet.listener()
    bad, mended = build_kind("spoils"), build_kind("line")
    run("fab", "deploy", "--env", fleet.env, "--release", bad, *QUICK)
    try:
        for host in streams:
            fleet.on(host, f"sudo touch {SPOILED}")
        wait_until("pages fail", LATE_S, lambda: answers(listener) >= 500, every=1)
        said = page.next("First command").out
        assert said.count("web is ill") == len(streams) and bad in said and good not in said
        releases, runs = page.rest("First command")
        assert good in releases.out and bad in runs.out

        page.next("7")
        page.next("7")
        assert MENDING in listener.get("/")[1].decode()
        with faults.killed(fleet, streams[-1]):
            assert good in page.next("3").said
            ended = page.next("3", ends=(3,)).err
            assert good in ended and streams[-1] in ended
            page.rest("7")
            wait_until("pages are back", LATE_S, lambda: answers(listener) == 200, every=1)
        logs_in(fleet, streams[-1])
        page.names["ID"] = good
        page.rest("6")
        assert release_of(fleet) == good
        page.names["ID"] = mended
        page.rest("4")
        assert release_of(fleet) == good, "it was a rehearsal"
        assert "web is ill" not in page.rest("It is over when")[0].out
        page.rest("Write down")
    finally:
        logs_in(fleet, *streams)
        for host in streams:
            fleet.on(host, f"sudo rm -f {SPOILED}", expect=None)
    serves(fleet)


@follows("bad-release", "1", "5")
def test_a_run_is_taken_back_by_somebody_else(fleet: Fleet, page: Page) -> None:
    """One that somebody works on, and one whose controller is dead: by the same command."""
    before, release = live(fleet), build_kind("line")
    crowd = fleet.crowd(fleet.listener())
    try:
        for alive in (True, False):
            work = Fab(fleet, "deploy", "--release", release, "--soak", "240")
            try:
                wait_until("it is live somewhere", 240, lambda: _live_somewhere(fleet, release), 1)
                if alive:
                    assert (
                        "leased to" in run("fab", "status", "--env", fleet.env, COLUMNS="400").out
                    )
                    run("fab", "rollback", "--env", fleet.env, expect=5)
                    assert "HOLDER" in page.next("5").out
                    page.next("1")
                    work.end(expect=4)
                else:
                    work.signal(signal.SIGKILL)
                    work.process.wait()
                    page.again()
            finally:
                if work.process.poll() is None:
                    work.signal(signal.SIGKILL)
            assert live(fleet) == before
    finally:
        tally = crowd.stop()
    assert tally.requests > 100 and not tally.failures, tally.failures


def _live_somewhere(fleet: Fleet, release: str) -> bool:
    return any(release in found for found in live(fleet).values())


@follows("bad-release", "Decide")
def test_one_host_is_ill(fleet: Fleet, page: Page) -> None:
    host = page.names["HOST"] = fleet.hosts("streaming")[0]
    release = release_of(fleet)
    assert host == "stream1", "test_night's trouble is this host's"
    web_dies(fleet)
    try:
        database, broker, restarted = (page.next("Decide") for _ in range(3))
        assert "leads" in database.out and "COPIES UP" in broker.out and restarted.code == 0
        assert health(fleet, host) == "200" and release_of(fleet) == release
        page.next("Decide")
        assert run("fab", "status", "--env", fleet.env, "--on", host, "--json").last["drained"]
    finally:
        run("fab", "undrain", host, "--env", fleet.env)
    serves(fleet)


# A full disk.

FULL = "/var/lib/rabbitmq"
"""A place that `fab status` looks at, and that no worker host uses: nobody else is hurt."""
HOARDER = """[Service]
ExecStart=/bin/bash -c 'if mkdir /run/hoarded; then exec 3>{full}/log; rm {full}/log; \\
  head -c 58M /dev/zero >&3; fi; exec sleep infinity'
"""
SCRIBE = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash -c 'head -c 20M /dev/zero >{full}/scribe'
"""
CACHED = "/var/cache/apt/archives/old.deb"


@pytest.fixture
def full(fleet: Fleet) -> Iterator[str]:
    """A worker host with a file system of 64 MB: one unit holds a deleted file there, another one failed."""
    host = fleet.hosts("worker")[-1]
    units = {"hoarder": HOARDER, "scribe": SCRIBE}
    mount = (
        f"mkdir -p {FULL}; mount -t tmpfs -o size=64m tmpfs {FULL}; head -c 9M /dev/zero >{CACHED}"
    )
    try:
        inside(fleet, host, "sh", "-ec", mount)
        for name, text in units.items():
            place = f"cat >/run/systemd/system/{name}.service"
            words = ("exec", "-i", fleet.container(host), "sh", "-ec", place)
            podman(*words, data=text.replace("{full}", FULL).encode())
        begin = (
            "systemctl daemon-reload; systemctl start hoarder; sleep 2; ! systemctl start scribe"
        )
        inside(fleet, host, "sh", "-ec", begin)
        yield host
    finally:
        clean = (
            "systemctl stop hoarder scribe; systemctl reset-failed hoarder scribe; "
            "rm -f /run/systemd/system/hoarder.service /run/systemd/system/scribe.service; "
            f"rm -rf /run/hoarded {CACHED}; umount -l {FULL}; rmdir {FULL}; systemctl daemon-reload"
        )
        inside(fleet, host, "sh", "-c", f"{clean}; true")
        run("fab", "undrain", host, "--env", fleet.env, expect=None)


@follows("disk-full", "First command", "1", "2", "3", "4", "It is over when")
def test_a_disk_is_full(fleet: Fleet, page: Page, full: str) -> None:
    page.names |= {"HOST": full, "UNIT": "hoarder"}
    said = page.next("First command").out
    assert re.search(rf"{FULL} (9\d|100)% full", said) and "scribe.service failed" in said
    df, du = page.rest("First command")
    assert re.search(rf"(9\d|100)% {FULL}$", df.out, re.M) and "/var" in du.out
    assert page.next("1").out.count("/var/log") == 2
    page.next("2")
    inside(fleet, full, "test", "!", "-e", CACHED)

    held = page.next("3").out
    (number,) = re.findall(rf"\b{58 * 1024**2} /proc/(\d+)/fd/3\b", held)
    assert "hoarder.service" in inside(
        fleet, full, "sh", "-c", f"systemctl status {number} || true"
    )
    page.next("3")
    assert re.search(rf" \d\d?% {FULL}$", inside(fleet, full, "df", "-h", FULL).strip(), re.M)
    page.names["UNIT"] = "scribe"
    page.next("4")
    page.next("4")
    assert "scribe.service" in page.next("4").out
    page.rest("4")
    # Now that nothing has failed any more, the way for units that serve.
    page.names["UNIT"] = "hoarder"
    page.rest("3")

    assert FULL not in page.next("It is over when").out
    page.rest("It is over when")
    assert inside(fleet, full, "systemctl", "show", "-p", "ActiveState", "scribe").strip() == (
        "ActiveState=active"
    )
    serves(fleet)


# A certificate that has expired.


@follows("certificate-expired", "First command", "1", "It is over when")
def test_the_edge_s_certificate_has_expired(fleet: Fleet, page: Page, tmp_path: Path) -> None:
    vault = expired.secrets_file(fleet)
    saved = vault.read_text(encoding="utf-8")
    good = expired.secrets(fleet)["vault_edge_certificate"]
    bad, chain = expired.edge_pem(good)
    (tmp_path / "edge.pem").write_text(chain)
    browser = Listener(fleet.base, tmp_path / "edge.pem")
    try:
        text = yaml.safe_dump({**yaml.safe_load(saved), "vault_edge_certificate": bad})
        vault.write_text(text, encoding="utf-8")
        expired.show_on_edges(fleet, bad)
        with pytest.raises(OSError, match="certificate has expired"):
            browser.get("/")
        said = page.next("First command", ends=(1,)).out
        assert re.search(r"^ *-\d.* edge ", said, re.M), said
        page.rest("First command", ends=(0, 1))

        page.by_hand = {
            "ansible-vault edit": lambda: vault.write_text(saved, encoding="utf-8"),
            "fab run 'certbot renew": lambda: None,
        }
        page.rest("1")
        serves(fleet)
        page.rest("It is over when")
    finally:
        vault.write_text(saved, encoding="utf-8")
        expired.show_on_edges(fleet, good)


@follows("certificate-expired", "2", "4", "5")
def test_certificates_of_hosts_have_expired(
    whole: Fleet, brokers: Fleet, page: Page, tmp_path: Path
) -> None:
    """A standby's and a broker's: nobody talks to them any more, and nothing is lost meanwhile."""
    standby, broker = cluster.standby(whole), brokers.hosts("broker")[-1]
    asker, peer = cluster.leader(whole), brokers.hosts("broker")[0]
    shown = {standby: (asker, 5432, "-starttls postgres"), broker: (peer, 5671, "")}

    def refuse() -> set[bool]:
        doors = shown.items()
        return {expired.refused(whole, who, of, port, more) for of, (who, port, more) in doors}

    with (
        expired.kept(whole, shown, tmp_path / "pki"),
        Trial(whole, "certificates expired") as trial,
    ):
        authority = expired.Authority(whole)
        for host in shown:
            authority.end_host(host)
        wait_until("they are refused", 30, lambda: refuse() == {True}, every=1)
        assert page.next("2").code == 2, "the rehearsal has nothing to do"
        page.next("2")
        assert refuse() == {False}
        cluster.settled(whole)
        page.names |= {"HOST": standby, "UNIT": "pgbouncer"}
        page.rest("4")
        cluster.settled(whole)
        wait_until("the brokers are whole", LATE_S, lambda: whole_brokers(brokers), every=1)
        page.rest("5")
        trial.back(60)
    trial.verdict.safe()
    serves(whole)


@follows("certificate-expired", "3", "It is over when")
def test_the_authority_has_expired(
    whole: Fleet, brokers: Fleet, page: Page, tmp_path: Path
) -> None:
    """And with it every certificate that it signed."""
    hosts = sorted(host.name for host in whole.topology)
    row = f"kept-{time.time()}"
    cluster.sql(whole, f"INSERT INTO fault_rows VALUES ('{row}')")
    before = prints(whole, hosts)
    with expired.kept(whole, hosts, tmp_path / "pki"):
        authority = expired.Authority(whole)
        trusts = authority.end()
        for host in hosts:
            authority.end_host(host, trusts)
        found = run("fab", "certs", "--env", whole.env, "--json", expect=1).lines
        assert {row["name"] for row in found if (row["days"] or 0) < 0} == {"ca", "host"}
        page.rest("3")
        cluster.settled(whole)
        wait_until("the brokers are whole", LATE_S, lambda: whole_brokers(brokers), every=1)
        page.rest("It is over when")
    after = prints(whole, hosts)
    assert [host for host in hosts if after[host][1] == before[host][1]] == [], "the same authority"
    assert cluster.sql(whole, f"SELECT id FROM fault_rows WHERE id = '{row}'") == [row]
    serves(whole)


# A host that was broken into.

INTRUDER = "mallory"
JOURNAL = "/var/lib/backline/jukebox/journal.jsonl"


def gets_in(fleet: Fleet, key: Path, host: str) -> bool:
    """Whether the intruder's key opens a host; once in, they try for more."""
    port = next(entry.ssh_port for entry in fleet.topology if entry.name == host)
    words = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    words += ["-o", "IdentitiesOnly=yes", "-i", str(key), "-p", str(port)]
    words += [f"{INTRUDER}@127.0.0.1", "sudo -n id; true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def intruder(fleet: Fleet, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """(a key that every host accepts, the file of the inventory that says so)."""
    key = tmp_path / "stolen"
    variables = files.INVENTORY / fleet.env / "group_vars/all"
    users = yaml.safe_load((variables / "main.yml").read_text(encoding="utf-8"))["fleet_users"]
    users.append({"name": INTRUDER, "keys": [ssh_key(key, INTRUDER)]})
    override = variables / "users.yml"  # read after main.yml
    build = ("fab", "provision", "--env", fleet.env, "--on", "all", "--tags", "users")
    try:
        override.write_text(yaml.safe_dump({"fleet_users": users}), encoding="utf-8")
        run(*build)
        yield key, override
    finally:
        override.unlink(missing_ok=True)
        if any(gets_in(fleet, key, host) for host in fleet.hosts("streaming")):
            run(*build, expect=None)


@follows("host-compromised", "First command", "1", "2", "3", "7", "It is over when", "Write down")
def test_a_host_that_was_broken_into_is_replaced(
    fleet: Fleet, page: Page, intruder: tuple[Path, Path]
) -> None:
    key, override = intruder
    host = page.names["HOST"] = fleet.hosts("streaming")[-1]
    other, release = fleet.hosts("streaming")[0], release_of(fleet)
    intact = run("fab", "audit.verify", "--env", fleet.env, expect=None).code
    assert gets_in(fleet, key, host) and gets_in(fleet, key, other)
    inside(fleet, host, "sed", "-i", '2s/"run"/"RUN"/', JOURNAL)

    assert re.search(rf"{host}\b.* line 2", page.next("First command", ends=(1,)).err)
    here, everywhere, connected = page.rest("First command")
    assert f"Accepted publickey for {INTRUDER}" in here.out and "COMMAND=" in here.out
    assert other in everywhere.out and ":22 " in connected.out

    override.unlink()
    assert page.next("1").code == 2, "the rehearsal takes nobody out"
    page.rest("1")
    assert not gets_in(fleet, key, other) and gets_in(fleet, key, host)
    with _built_in_the_end(fleet, release):
        with faults.cut(fleet, host):
            first, *tiers = (page.next("2", ends) for ends in ((1,), (0,), (0,)))
            assert re.search(rf"\b{host} .*unreachable", first.out) and len(tiers) == 2
            assert "IT COULD NOT BE REACHED" in page.next("3").out
            for edge in fleet.hosts("edge"):
                assert host not in inside(fleet, edge, "cat", "/etc/haproxy/haproxy.cfg")
        fleet.leave_out(host)
        serves(fleet)
        _build_anew(fleet, host)
        page.next("7")
        page.next("7", answer=1)
        page.names["ID"] = release
        page.rest("7")
    assert release_of(fleet) == release and host in live(fleet)
    assert not gets_in(fleet, key, host)
    page.next("It is over when", ends=(intact,))
    page.rest("It is over when")
    page.rest("Write down")
    serves(fleet)


@contextlib.contextmanager
def _built_in_the_end(fleet: Fleet, release: str) -> Iterator[None]:
    """A test that fails on the way leaves no fleet with a host less."""
    try:
        yield
    except BaseException:
        run("inv", "lab.up", "--env", fleet.env, "--size", files.require(fleet.env).size)
        run("fab", "provision", "--env", fleet.env, expect=None, timeout=2400)
        run("fab", "deploy", "--env", fleet.env, "--release", release, expect=None)
        raise


def _build_anew(fleet: Fleet, host: str) -> None:
    """From an empty disk, with another key, and back in hosts.yml; nobody has looked at the key yet."""
    known = files.INVENTORY / fleet.env / "known_hosts"
    without = known.read_text(encoding="utf-8")
    podman("rm", "--force", "--volumes", "--time", "0", fleet.container(host))
    key = host_key(fleet.folder, host)
    for path in (key, key.with_name(f"{key.name}.pub")):
        path.unlink()
    run("inv", "lab.up", "--env", fleet.env, "--size", files.require(fleet.env).size)
    known.write_text(without, encoding="utf-8")


@follows("host-compromised", "4", "5")
def test_all_that_it_knew_is_renewed(whole: Fleet, brokers: Fleet, page: Page) -> None:
    hosts = sorted(host.name for host in whole.topology)
    before, old = prints(whole, hosts), expired.secrets(whole)
    page.by_hand["ansible-vault edit"] = lambda: run("inv", "lab.renew-secrets", "--env", whole.env)
    listener = whole.listener()
    page.rest("4")
    assert listener.get(SONG)[0] == 401, "a session of the old key is good still"
    with Trial(whole, "the CA replaced after an intrusion") as trial:
        page.rest("5")
        cluster.settled(whole)
        trial.back(60)
    new = expired.secrets(whole)
    told = inside(whole, whole.hosts("streaming")[0], "cat", "/etc/jukebox/jukebox.env")
    for name in ("vault_jukebox_database_password", "vault_jukebox_secret_key"):
        assert old[name] not in told and new[name] in told
    for host in (*whole.hosts("streaming"), *whole.hosts("worker")):
        knows = "grep -alF -f - /proc/[0-9]*/environ 2>/dev/null || true"
        words = ("exec", "-i", whole.container(host), "sh", "-c", knows)
        key = old["vault_jukebox_secret_key"].encode()
        assert podman(*words, data=key) == "", f"a process of {host} takes the old key"
    after = prints(whole, hosts)
    assert [h for h in hosts if {*after[h]} & {*before[h]}] == [], "they know it still"
    wait_until("the brokers are whole", LATE_S, lambda: whole_brokers(brokers), every=1)
    trial.verdict.safe()
    serves(whole)


# A zone that is gone.

ZONE = "b"
"""The one with the smaller half of everything: what is left goes on."""


@follows("zone-gone", "First command", "1", "2", "4", "5", "It is over when")
def test_a_zone_is_gone_and_comes_back(whole: Fleet, brokers: Fleet, page: Page) -> None:
    """While a release is rolled out, from a machine that is in the zone, too."""
    zone = [host.name for host in whole.topology if host.zone == ZONE]
    rest = {host.name for host in whole.topology} - {*zone}
    first = next(host for host in whole.hosts("streaming") if host in zone)
    page.names |= {"zone_a": f"zone_{ZONE}", "HOST": first}
    before, half, mended = live(whole), build_kind("line"), build_kind("line")
    work = Fab(whole, "deploy", "--release", half, "--soak", "240")
    try:
        wait_until("it is live somewhere", 240, lambda: _live_somewhere(whole, half), 1)
        with Jobs(brokers, "a zone is gone: jobs") as jobs, Trial(whole, "a zone is gone") as trial:
            work.signal(signal.SIGKILL)
            work.process.wait()
            with faults.stopped(whole, *zone):
                trial.back(90)
                _without_the_zone(page, zone)
                _deployed_without_it(whole, page, zone, before, mended)
            logs_in(whole, *zone)
            cluster.settled(whole)
            wait_until("the brokers are whole", 240, lambda: whole_brokers(brokers), every=1)
            page.rest("It is over when")
            trial.back(30)
            jobs.back(30)
    finally:
        if work.process.poll() is None:
            work.signal(signal.SIGKILL)
    assert release_of(whole) == mended and {*live(whole)} == {*before}
    rows = run("fab", "status", "--env", whole.env, "--json").lines
    assert len({row["host"] for row in rows}) == len(zone) + len(rest)
    assert not [row["host"] for row in rows if row.get("quarantine") or row.get("unfinished")]
    trial.verdict.safe()
    jobs.verdict.safe()
    serves(whole)


def _without_the_zone(page: Page, zone: list[str]) -> None:
    """The first looks say which zone it is, and that the data tier goes on with two of three."""
    said = page.next("First command", ends=(1,)).out
    gone = re.findall(r"^ *(\S+) .*\bunreachable\b", said, re.M)
    assert sorted(gone) == sorted(zone)
    listed = page.next("First command")
    assert f"{len(zone)} hosts" in listed.out + listed.err
    page.next("First command", ends=(0, 1))  # a machine of ours has its own troubles
    database, broker = (page.next("First command", ends=(1,)).out for _ in range(2))
    assert "etcd 2 of 3 votes" in database and "NOBODY" not in database
    assert broker.count("2 of 3") == 2 and "no answer" in broker
    assert "100% packet loss" in page.next("1", ends=(1,)).out


def _deployed_without_it(
    fleet: Fleet,
    page: Page,
    zone: list[str],
    before: dict[str, set[str | None]],
    release: str,
) -> None:
    """The run that was cut off goes back; what is left gets a release of its own."""
    assert re.search("HOLDER|is not finished", page.next("2", ends=(1,)).out)
    ended = page.next("2", ends=(3,)).err
    apps = [host for host in before if host in zone]
    assert all(host in ended for host in apps), ended
    assert {h: r for h, r in live(fleet).items() if h not in zone} == {
        h: r for h, r in before.items() if h not in zone
    }
    page.rest("4")
    page.names["ID"] = release
    page.next("5")
    ended = page.next("5", ends=(3,)).err
    assert all(host in ended for host in apps), ended
    assert {*live(fleet)} == {*before} - {*zone}
    assert release_of(fleet) == release
    serves(fleet)
