"""Certificates expire, for real, and their page's own commands renew them: see test_emergencies.py."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml

from backline.lab.listener import Listener
from tests.chaos import expired
from tests.chaos.ending import serves, tidy
from tests.data import cluster
from tests.data.conftest import data, podman_as_the_lab_has_it, whole
from tests.data.remote import wait_until
from tests.data.test_broker import brokers, whole_brokers
from tests.data.test_maintenance import prints
from tests.data.trial import Trial
from tests.live import Fleet, run
from tests.reading import Page, follows

__all__ = ["brokers", "data", "podman_as_the_lab_has_it", "tidy", "whole"]

SIZE = "full"
LATE_S = 120.0


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
        wait_until("they are refused", expired.READ_S, lambda: refuse() == {True}, every=1)
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
        assert {row["name"] for row in found if (row.get("days") or 0) < 0} == {"ca", "host"}
        page.rest("3")
        cluster.settled(whole)
        wait_until("the brokers are whole", LATE_S, lambda: whole_brokers(brokers), every=1)
        page.rest("It is over when")
    after = prints(whole, hosts)
    assert [host for host in hosts if after[host][1] == before[host][1]] == [], "the same authority"
    assert cluster.sql(whole, f"SELECT id FROM fault_rows WHERE id = '{row}'") == [row]
    serves(whole)
