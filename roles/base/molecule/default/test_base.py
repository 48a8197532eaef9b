"""What an SRE relies on after the base role: who can get in, and as what."""


def test_users_have_exactly_their_keys(host):
    keys = host.file("/home/ada/.ssh/authorized_keys")
    assert keys.mode == 0o600 and keys.user == "ada"
    assert "stranger" not in keys.content_string
    assert keys.content_string.strip().endswith("ada")


def test_who_left_is_gone_with_their_home(host):
    assert not host.user("gone").exists
    assert not host.file("/home/gone").exists


def test_sudo_is_for_those_who_were_given_it(host):
    assert host.run("sudo -u ada sudo -n id -u").stdout.strip() == "0"
    assert host.run("sudo -u deploy sudo -n id -u").rc != 0


def test_nobody_logs_in_with_a_password_or_as_root(host):
    effective = host.run("sshd -T").stdout
    assert "passwordauthentication no" in effective
    assert "permitrootlogin no" in effective
    assert "authenticationmethods publickey" in effective
    assert host.service("ssh").is_running and host.service("ssh").is_enabled


def test_the_fleet_has_names(host):
    assert host.run("getent hosts edge1").stdout.split()[0] == "198.51.100.12"
    assert host.run("getent ahostsv4 localhost").stdout.startswith("127.0.0.1")
