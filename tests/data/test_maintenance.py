"""Minor upgrades, restarts, new certificates and another CA, while applications write and publish.

A minor upgrade needs two versions. Where the package archive has an older one it is installed first, and
upgraded from; where it has not, the same version is installed again on the same way, which replaces
every program on disk and restarts the members one after the other. The name of the trial says which it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.data import cluster, summary
from tests.data.cluster import inside
from tests.data.remote import wait_until
from tests.data.test_broker import brokers, whole_brokers
from tests.data.trial import Jobs, Trial
from tests.live import Fleet, run

__all__ = ["brokers"]

SIZE = "full"
PACKAGES = {"database": ("postgresql-15", "postgresql-client-15"), "broker": ("rabbitmq-server",)}
PLAYBOOK_S = 3600.0


def installed(fleet: Fleet, host: str, package: str) -> str:
    return inside(fleet, host, "dpkg-query", "-W", "-f", "${Version}", package).strip()


def older(fleet: Fleet, host: str, package: str) -> str:
    """The newest version before the one that is installed; empty if the archive has none."""
    now = installed(fleet, host, package)
    inside(fleet, host, "apt-get", "-q", "update", timeout=300)
    listed = inside(fleet, host, "apt-cache", "madison", package).splitlines()
    script = (
        'best=; for v in "$@"; do dpkg --compare-versions "$v" lt "$NOW" || continue; '
        '[ -z "$best" ] || dpkg --compare-versions "$v" gt "$best" || continue; best=$v; done; echo "$best"'
    )
    known = sorted({line.split("|")[1].strip() for line in listed})
    return inside(fleet, host, "env", f"NOW={now}", "sh", "-c", script, "sh", *known).strip()


def go_back(fleet: Fleet, group: str, healthy: Callable[[], object]) -> str:
    """Puts an older version on all hosts of a group, one by one, and runs it; empty if there is none."""
    packages = PACKAGES[group]
    found = [older(fleet, fleet.hosts(group)[0], package) for package in packages]
    if not all(found):
        return ""
    wanted = [f"{package}={version}" for package, version in zip(packages, found, strict=True)]
    words = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
    install = (
        "install",
        "--allow-downgrades",
        "--no-install-recommends",
        "-o",
        "Dpkg::Options::=--force-confold",
    )
    for host in fleet.hosts(group):
        inside(fleet, host, *words, *install, *wanted, timeout=600)
        if group == "database":
            patronictl = ("patronictl", "-c", "/etc/patroni/patroni.yml")
            inside(fleet, host, *patronictl, "restart", "jukebox", host, "--force", timeout=180)
        healthy()
    return found[0]


def patch(fleet: Fleet, group: str) -> None:
    """As an operator brings upgrades in."""
    extra = {
        "patch_hosts": group,
        "patch_all": True,
        "patch_reinstall": list(PACKAGES[group]),
        "patch_reboot": "never",
    }
    fleet.playbook("patch", "-e", json.dumps(extra), timeout=PLAYBOOK_S)


def began(fleet: Fleet, unit: str, hosts: list[str]) -> dict[str, str]:
    """When a unit's main process started, on each host."""
    words = ("systemctl", "show", "--property=ExecMainStartTimestampMonotonic", unit)
    return {host: inside(fleet, host, *words).strip() for host in hosts}


def postmasters(fleet: Fleet) -> dict[str, str]:
    """When PostgreSQL started, on each host."""
    asked = "SELECT pg_postmaster_start_time()"
    return {host: cluster.sql(fleet, asked, host)[0] for host in fleet.hosts("database")}


def named(what: str, before: str, after: str) -> str:
    if before:
        return f"{what} minor upgrade, {before} to {after}"
    return f"{what}: no other version here, {after} installed again, member by member"


def test_a_minor_upgrade_of_the_database(whole: Fleet) -> None:
    newest = installed(whole, whole.hosts("database")[0], "postgresql-15")
    before = go_back(whole, "database", lambda: cluster.settled(whole))
    started = postmasters(whole)
    with Trial(whole, named("database", before, newest)) as trial:
        patch(whole, "database")
        cluster.settled(whole)
        trial.back(30)
    again = postmasters(whole)
    assert [host for host in again if again[host] == started[host]] == [], "not restarted"
    for host in whole.hosts("database"):
        assert installed(whole, host, "postgresql-15") == newest
        assert cluster.version(whole, host) in newest
    trial.verdict.safe()
    trial.verdict.retried()


def test_a_minor_upgrade_of_the_brokers(whole: Fleet, brokers: Fleet) -> None:
    hosts = brokers.hosts("broker")
    newest = installed(brokers, hosts[0], "rabbitmq-server")

    def healthy() -> float:
        return wait_until("the brokers are whole", 240, lambda: whole_brokers(brokers), every=1)

    before = go_back(brokers, "broker", healthy)
    started = began(brokers, "rabbitmq-server", hosts)
    with Jobs(brokers, named("broker", before, newest)) as jobs:
        patch(brokers, "broker")
        healthy()
        jobs.back(30)
    again = began(brokers, "rabbitmq-server", hosts)
    assert [host for host in hosts if again[host] == started[host]] == [], "not restarted"
    assert {installed(brokers, host, "rabbitmq-server") for host in hosts} == {newest}
    jobs.verdict.safe()
    assert not jobs.verdict.gave_up


def restart(fleet: Fleet, group: str) -> None:
    """As an operator restarts what a group of hosts is there for."""
    number = str(len(fleet.hosts(group)))
    words = ("fab", "restart", "--env", fleet.env, "--on", group, "--yes", number)
    run(*words, timeout=PLAYBOOK_S)


def test_the_database_is_restarted_member_by_member(whole: Fleet) -> None:
    started = postmasters(whole)
    with Trial(whole, "database restarted, member by member") as trial:
        restart(whole, "database")
        cluster.settled(whole)
        trial.back(30)
    again = postmasters(whole)
    assert [host for host in again if again[host] == started[host]] == [], "not restarted"
    trial.verdict.safe()
    trial.verdict.retried()


def test_the_brokers_are_restarted_one_by_one(whole: Fleet, brokers: Fleet) -> None:
    hosts = brokers.hosts("broker")
    started = began(brokers, "rabbitmq-server", hosts)
    with Jobs(brokers, "brokers restarted, one by one") as jobs:
        restart(brokers, "broker")
        wait_until("the brokers are whole", 240, lambda: whole_brokers(brokers), every=1)
        jobs.back(30)
    again = began(brokers, "rabbitmq-server", hosts)
    assert [host for host in hosts if again[host] == started[host]] == [], "not restarted"
    jobs.verdict.safe()
    assert not jobs.verdict.gave_up


@pytest.mark.parametrize(
    ("what", "variable"),
    [("certificates rotated", "pki_force_renew"), ("CA rotated", "pki_new_ca")],
)
def test_what_proves_who_is_who_is_rotated(
    whole: Fleet, brokers: Fleet, what: str, variable: str
) -> None:
    hosts = [*whole.hosts("database"), *whole.hosts("broker"), *whole.hosts("worker")]
    before = prints(whole, hosts)
    with Jobs(whole, f"{what}: jobs") as jobs, Trial(whole, what) as trial:
        whole.playbook("rotate_certificates", "-e", f"{variable}=true", timeout=PLAYBOOK_S)
        cluster.settled(whole)
        trial.back(30)
        jobs.back(30)
    after = prints(whole, hosts)
    assert [host for host in hosts if after[host][0] == before[host][0]] == [], (
        "the same certificate"
    )
    changed = [host for host in hosts if after[host][1] != before[host][1]]
    assert changed == (hosts if variable == "pki_new_ca" else []), "trust"
    summary.note(f"{what}: proof", hosts=len(hosts), another_ca=bool(changed))
    trial.verdict.safe()
    trial.verdict.retried()
    jobs.verdict.safe()
    assert not jobs.verdict.gave_up


def prints(fleet: Fleet, hosts: list[str]) -> dict[str, tuple[str, str]]:
    """(of its certificate, of whom it trusts), on each host."""
    files = ("/etc/backline/pki/host.pem", "/etc/backline/pki/ca.pem")

    def digest(host: str, path: str) -> str:
        return inside(fleet, host, "sha256sum", path).split()[0]

    return {host: (digest(host, files[0]), digest(host, files[1])) for host in hosts}
