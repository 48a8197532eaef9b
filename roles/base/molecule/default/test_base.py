"""What an SRE relies on after the base role: who can get in, and as what."""

import pytest


def test_users_have_exactly_their_keys(host):
    keys = host.file("/home/ada/.ssh/authorized_keys")
    assert keys.mode == 0o600 and keys.user == "ada"
    assert "stranger" not in keys.content_string
    assert keys.content_string.strip().endswith("ada")


@pytest.mark.parametrize("name", ["gone", "forgotten"])
def test_who_left_is_gone_with_all_they_had(host, name):
    assert not host.user(name).exists
    assert not host.file(f"/home/{name}").exists
    assert not host.file(f"/etc/sudoers.d/50-{name}").exists
    assert not host.file(f"/var/lib/systemd/linger/{name}").exists
    assert host.run(f"systemctl is-active left-{name}").stdout.strip() != "active"


def test_a_user_that_the_role_never_made_stays(host):
    assert host.user("stranger").exists


def test_the_role_remembers_whom_it_made(host):
    record = host.file("/var/lib/backline/base/users").content_string
    assert record.split() == ["ada", "deploy"]


def test_sudo_is_for_those_who_were_given_it(host):
    assert host.run("sudo -u ada sudo -n id -u").stdout.strip() == "0"
    assert host.run("sudo -u deploy sudo -n id -u").rc != 0


def test_who_belongs_to_the_journals_group_reads_it(host):
    read = host.run("sudo -u deploy journalctl --lines=1 --output=json --no-pager")
    assert read.rc == 0 and "__REALTIME_TIMESTAMP" in read.stdout and not read.stderr


def test_nobody_logs_in_with_a_password_or_as_root(host):
    effective = host.run("sshd -T").stdout
    assert "passwordauthentication no" in effective
    assert "permitrootlogin no" in effective
    assert "authenticationmethods publickey" in effective
    assert host.service("ssh").is_running and host.service("ssh").is_enabled


def test_sshd_offers_only_what_is_strong(host):
    effective = dict(
        line.split(" ", 1) for line in host.run("sshd -T").stdout.splitlines() if " " in line
    )
    assert effective["kexalgorithms"].startswith("sntrup761x25519-sha512@openssh.com")
    assert "nistp" not in effective["kexalgorithms"] and "group" not in effective["kexalgorithms"]
    assert all("etm" in mac for mac in effective["macs"].split(","))
    assert effective["hostkey"] == "/etc/ssh/ssh_host_ed25519_key"


def test_no_change_of_sshd_waits_to_be_undone(host):
    assert host.run("ls -A /var/lib/backline/sshd").stdout == ""
    assert host.service("backline-sshd-undo").is_enabled


def test_the_fleet_has_names(host):
    assert host.run("getent hosts edge1").stdout.split()[0] == "198.51.100.12"
    assert host.run("getent ahostsv4 localhost").stdout.startswith("127.0.0.1")
