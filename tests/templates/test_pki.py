"""The unit that tells the monitor when certificates end, and what the playbook hands the role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.templates.test_templates import trusted, unit

ROOT = Path(__file__).resolve().parents[2]


def test_the_unit_reads_public_files_and_talks_to_nobody() -> None:
    found = unit("pki", "backline-certificates.service.j2")
    assert found["ExecStart"][0].endswith(" /usr/local/lib/backline/pki-metrics")
    assert found["ReadWritePaths"] == ["/var/lib/prometheus/node-exporter"]
    assert found["PrivateNetwork"] == ["yes"] and found["RestrictAddressFamilies"] == ["none"]
    assert found["CapabilityBoundingSet"] == [""] and found["NoNewPrivileges"] == ["yes"]


def test_a_day_that_the_host_was_off_is_made_up_for() -> None:
    timer = unit("pki", "backline-certificates.timer.j2")
    assert timer["OnCalendar"] == ["daily"] and timer["Persistent"] == ["true"]


def given(name: str, **variables: Any) -> Any:
    """A variable of playbooks/group_vars/all.yml, as a host of these groups gets it."""
    text = (ROOT / "playbooks/group_vars/all.yml").read_text(encoding="utf-8")
    known = trusted({**yaml.safe_load(text), **variables})
    return Templar(DataLoader(), variables=known).template(known[name])


def test_a_host_gets_the_names_of_the_services_that_it_is() -> None:
    assert given("pki_names", group_names=["database", "broker"]) == ["database", "broker"]
    assert given("pki_names", group_names=["edge", "zone_a"]) == []


def test_a_lab_keeps_its_ca_with_its_keys_and_an_environment_in_its_inventory() -> None:
    assert given("pki_ca_dir", inventory_dir="/i/staging") == "/i/staging/pki"
    lab = given("pki_ca_dir", inventory_dir="/i/lab", lab_folder="/p/.lab/lab")
    assert lab == "/p/.lab/lab/pki"


def test_a_host_tells_those_who_use_its_certificates() -> None:
    known = {"database": [{"name": "a"}, {"name": "b"}], "broker": [{"name": "c"}]}
    found = given("pki_consumers", group_names=["database"], fleet_certificate_consumers=known)
    assert [consumer["name"] for consumer in found] == ["a", "b"]
