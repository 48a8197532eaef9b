"""A host is broken into, a zone is gone, and the pages' own commands mend it (test_emergencies.py)."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from backline.lab import files
from backline.lab.fleet import host_key
from backline.lab.machine import podman, remove
from backline.lab.secrets import ssh_key
from tests.chaos import expired
from tests.chaos.ending import SONG, live_somewhere, logs_in, release_here, release_of, serves, tidy
from tests.data import cluster, faults
from tests.data.cluster import inside
from tests.data.conftest import data, podman_as_the_lab_has_it, whole
from tests.data.remote import wait_until
from tests.data.test_broker import brokers, whole_brokers
from tests.data.test_maintenance import prints
from tests.data.trial import Jobs, Trial
from tests.live import Fleet, run
from tests.reading import Page, follows
from tests.releases import build_kind
from tests.rollout.runs import Fab, live

__all__ = ["brokers", "data", "podman_as_the_lab_has_it", "tidy", "whole"]

SIZE = "full"
LATE_S = 120.0


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
    other, release = fleet.hosts("streaming")[0], release_here(fleet)
    intact = run("fab", "audit.verify", "--env", fleet.env, expect=None).code
    assert gets_in(fleet, key, host) and gets_in(fleet, key, other)
    inside(fleet, host, "sed", "-i", '2s/"run"/"RUN"/', JOURNAL)

    assert re.search(rf"{host}\b.* line 2", page.next("First command", ends=(1,)).err)
    here, everywhere, connected = page.rest("First command")
    assert f"Accepted publickey for {INTRUDER}" in here.out and "COMMAND=" in here.out
    assert other in everywhere.out and ":22 " in connected.out

    override.unlink()
    assert page.next("1").code == 2, "the rehearsal takes nobody out"
    assert ":22 " in page.rest("1")[-1].out, "nobody is told who is still there"
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
    page.next("It is over when", ends=(0, intact))
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
    remove(fleet.container(host))
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
        wait_until("it is live somewhere", 240, lambda: live_somewhere(whole, half), 1)
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
