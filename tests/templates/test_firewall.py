"""The firewall's ruleset: who is let in, for what, over which family."""

from __future__ import annotations

from tests.templates.test_templates import render


def rules(*openings: dict[str, object], **more: object) -> list[str]:
    text = render("firewall", "nftables.conf.j2", firewall_openings=list(openings), **more)
    return [line.strip() for line in text.splitlines()]


def test_nothing_is_let_in_that_nobody_asked_for() -> None:
    lines = rules()
    assert "type filter hook input priority filter; policy drop;" in lines
    assert "type filter hook forward priority filter; policy drop;" in lines
    assert not [line for line in lines if "dport" in line]


def test_running_connections_go_on_before_anything_is_dropped() -> None:
    lines = rules()
    assert lines.index("ct state established,related accept") < lines.index("ct state invalid drop")


def test_an_opening_without_from_is_for_everybody() -> None:
    assert "tcp dport { 80, 443 } accept" in rules({"name": "web", "ports": [443, 80]})


def test_an_opening_from_an_empty_list_is_for_nobody() -> None:
    lines = rules({"name": "metrics", "ports": [9100], "from": []})
    assert not [line for line in lines if "9100" in line]


def test_each_family_has_a_rule_of_its_own() -> None:
    lines = rules({"name": "db", "ports": [5432], "from": ["198.51.100.0/24", "2001:db8::1"]})
    assert "ip saddr { 198.51.100.0/24 } tcp dport { 5432 } accept" in lines
    assert "ip6 saddr { 2001:db8::1 } tcp dport { 5432 } accept" in lines


def test_heartbeats_of_balancers_are_let_in_by_number() -> None:
    lines = rules({"name": "vrrp", "protocol": "vrrp", "from": ["198.51.100.7"]})
    assert "ip saddr { 198.51.100.7 } meta l4proto 112 accept" in lines


def test_other_programs_tables_are_not_flushed() -> None:
    assert not [line for line in rules() if "flush" in line]
    assert "delete table inet backline" in rules()
