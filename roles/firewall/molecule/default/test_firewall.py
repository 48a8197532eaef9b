"""What an SRE relies on after the firewall role: who gets in, and that others' rules stay."""

import subprocess

import pytest
import testinfra

HOSTS = ("mol-firewall", "mol-firewall-peer")


@pytest.fixture(scope="module")
def pair():
    """(the address of the first host, the second host that knocks)."""
    look = ["podman", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", HOSTS[0]]
    address = subprocess.run(look, capture_output=True, text=True, check=True).stdout.strip()
    return address, testinfra.get_host(f"podman://{HOSTS[1]}")


def knock(peer, address, port):
    """curl's exit code: 0 let in, 28 dropped, 7 refused."""
    return peer.run(f"curl -sS --max-time 2 -o /dev/null http://{address}:{port}/").rc


def test_an_opening_lets_a_peer_in(pair):
    assert knock(pair[1], pair[0], 8001) == 0


def test_a_port_without_an_opening_for_the_peer_is_dropped(pair):
    assert knock(pair[1], pair[0], 8002) == 28
    assert knock(pair[1], pair[0], 22) == 28


def test_a_port_that_is_shut_outside_is_open_inside(host):
    assert host.run("curl -sS --max-time 2 -o /dev/null http://127.0.0.1:8002/").rc == 0


def test_peers_can_ping(pair):
    assert pair[1].run(f"ping -c 1 -W 2 {pair[0]}").rc == 0


def test_a_running_download_outlives_new_rules(pair):
    address, peer = pair
    target = testinfra.get_host(f"podman://{HOSTS[0]}")
    target.run("head -c 3000000 /dev/zero > /var/empty/song")
    peer.run("rm -f /tmp/song /tmp/rc")
    fetch = f"curl -sS --limit-rate 500k -o /tmp/song http://{address}:8001/song; echo $? > /tmp/rc"
    peer.run(f"systemd-run --quiet sh -c '{fetch}'")
    peer.run("sleep 1")
    # The port is shut for whoever comes now; who is in stays.
    shut = "sed '/8001/d' /etc/nftables.conf > /tmp/shut.nft && nft -f /tmp/shut.nft"
    assert target.run(shut).rc == 0
    try:
        assert knock(peer, address, 8001) == 28
        peer.run("for n in $(seq 100); do test -e /tmp/rc && break; sleep 0.1; done")
        assert peer.file("/tmp/rc").content_string.strip() == "0"
        assert peer.file("/tmp/song").size == 3000000
    finally:
        target.run("nft -f /etc/nftables.conf")


def test_ipv6_is_shut_as_well(host):
    rules = host.run("nft list chain inet backline input").stdout
    assert "policy drop" in rules
    assert "ip6 saddr 2001:db8::/32 tcp dport 8002 accept" in rules


def test_other_programs_tables_stay_even_when_the_unit_restarts(host):
    assert host.run("systemctl restart nftables").rc == 0
    assert host.run("nft list table inet other").rc == 0
    assert host.run("/usr/local/sbin/backline-firewall loaded").rc == 0


def test_rules_come_back_at_boot(host):
    assert host.service("nftables").is_enabled
    assert host.run("nft -c -f /etc/nftables.conf").rc == 0


def test_rules_changed_by_hand_are_noticed(host):
    host.run("nft add rule inet backline input tcp dport 8002 accept")
    try:
        assert host.run("/usr/local/sbin/backline-firewall loaded").rc == 1
    finally:
        host.run("nft -f /etc/nftables.conf")
