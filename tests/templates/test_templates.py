"""Renders the roles' templates with Ansible's own templar; an undefined variable fails the test."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"
Render = Callable[..., str]


def trusted(value: Any) -> Any:
    """Marks every string inside as a template, as Ansible does with what it loads from roles."""
    if isinstance(value, dict):
        return {key: trusted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [trusted(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) else value


def render(role: str, template: str, **variables: Any) -> str:
    """The text of roles/<role>/templates/<template> with the role's defaults and `variables`."""
    known: dict[str, Any] = {"ansible_managed": "Ansible managed", "ansible_check_mode": False}
    known["role_path"] = str(ROLES / role)
    known["playbook_dir"] = str(ROLES.parent / "playbooks")
    for name in ("defaults", "vars"):
        path = ROLES / role / name / "main.yml"
        if path.exists():
            known.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    filters = ROLES / role / "filter_plugins"
    if filters.is_dir():
        filter_loader.add_directory(str(filters))
    source = (ROLES / role / "templates" / template).read_text(encoding="utf-8")
    loader = DataLoader()
    loader.set_basedir(str(ROLES / role / "templates"))
    templar = Templar(loader, variables=trusted({**known, **variables}))
    return str(templar.template(trust_as_template(source), escape_backslashes=False))


def test_an_undefined_variable_fails() -> None:
    with pytest.raises(Exception, match="edge_backends"):
        render(
            "edge",
            "haproxy.cfg.j2",
            edge_address="198.51.100.11",
            edge_backends=trust_as_template("{{ edge_backends_of }}"),
        )


def test_edge_checks_every_streaming_host_and_repeats_only_safe_requests() -> None:
    text = render(
        "edge",
        "haproxy.cfg.j2",
        edge_backends=[
            {"name": "stream1", "address": "198.51.100.21"},
            {"name": "stream2", "address": "198.51.100.22"},
        ],
        edge_address="198.51.100.11",
        edge_public_https_port=8443,
    )
    lines = [line.strip() for line in text.splitlines()]
    assert "server stream1 198.51.100.21:8080" in lines
    assert "server stream2 198.51.100.22:8080" in lines
    assert any(line.startswith("default-server check ") for line in lines)
    assert "http-request disable-l7-retry if ! { method GET HEAD OPTIONS }" in lines
    assert "http-check disable-on-404" in lines
    assert "field(1,:)]:8443%[pathq]" in text


def test_edge_hides_the_port_that_browsers_imply() -> None:
    text = render(
        "edge",
        "haproxy.cfg.j2",
        edge_address="198.51.100.11",
        edge_backends=[],
        edge_public_https_port=443,
    )
    assert "field(1,:)]%[pathq]" in text


def test_hosts_file_knows_the_fleet_and_itself() -> None:
    text = render("base", "hosts.j2", base_hosts=[{"name": "db1", "address": "198.51.100.31"}])
    assert "127.0.0.1 localhost" in text
    assert "198.51.100.31 db1" in text


def test_sshd_takes_keys_only() -> None:
    text = render("base", "sshd.conf.j2", base_sshd_allow_groups=["ssh-users"])
    for line in ("PasswordAuthentication no", "PermitRootLogin no", "AllowGroups ssh-users"):
        assert line in text.splitlines()
    assert "AllowGroups" not in render("base", "sshd.conf.j2")


def test_sudo_is_only_what_was_listed() -> None:
    item = {"name": "deploy", "sudo": ["/usr/local/bin/hostctl", "/usr/bin/journalctl"]}
    assert render("base", "sudoers.j2", item=item).splitlines()[-1] == (
        "deploy ALL=(root) NOPASSWD: /usr/local/bin/hostctl, /usr/bin/journalctl"
    )


FACTS = {
    "memtotal_mb": 4096,
    "processor_vcpus": 2,
    "architecture": "x86_64",
    "python": {"version": {"major": 3, "minor": 11}},
}


DATABASE = {
    "database_superuser_password": "one: 'quoted' \" password",
    "database_replication_password": "two",
    "database_etcd_password": "three",
    "database_allowed_networks": ["198.51.100.0/24"],
    "database_tls": {
        "ca": "/pki/ca.pem",
        "certificate": "/pki/host.pem",
        "key": "/pki/host.key",
        "group": "pki",
    },
    "__database_ca": {"stat": {"checksum": "0123456789abcdef"}},
}


def patroni(members: int, **more: Any) -> dict[str, Any]:
    """patroni.yml of the first of so many members, parsed."""
    names = [f"db{number}" for number in range(1, members + 1)]
    text = render(
        "database",
        "patroni.yml.j2",
        ansible_facts=FACTS,
        inventory_hostname="db1",
        database_address="198.51.100.31",
        database_members=[{"name": name, "address": f"198.51.100.3{name[-1]}"} for name in names],
        **DATABASE,
        **more,
    )
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def test_patroni_follows_synchronously_only_when_there_is_somebody_to_follow() -> None:
    assert patroni(3)["bootstrap"]["dcs"]["synchronous_mode"] is True
    assert patroni(1)["bootstrap"]["dcs"]["synchronous_mode"] is False


def test_patroni_keeps_the_design_s_clock_and_every_password_whole() -> None:
    document = patroni(3)
    settings = document["bootstrap"]["dcs"]
    assert (settings["ttl"], settings["loop_wait"], settings["retry_timeout"]) == (20, 2, 5)
    assert settings["primary_start_timeout"] == 0
    passwords = document["postgresql"]["authentication"]
    assert passwords["superuser"]["password"] == "one: 'quoted' \" password"


def test_postgresql_takes_applications_only_from_the_fleet_and_only_by_tls_and_scram() -> None:
    rules = [rule.split() for rule in patroni(1)["postgresql"]["pg_hba"]]
    assert rules
    assert {rule[0] for rule in rules} == {"local", "hostssl"}
    assert not any("trust" in rule or "md5" in rule or "0.0.0.0/0" in rule for rule in rules)
    network = [rule for rule in rules if "198.51.100.0/24" in rule]
    assert network and all(rule[-1] == "scram-sha-256" for rule in network)


def test_members_verify_each_other_everywhere() -> None:
    document = patroni(3)
    for account in ("replication", "rewind"):
        settings = document["postgresql"]["authentication"][account]
        assert (settings["sslmode"], settings["sslrootcert"]) == ("verify-full", "/pki/ca.pem")
    assert document["etcd3"]["protocol"] == "https" and document["etcd3"]["cacert"] == "/pki/ca.pem"
    assert document["restapi"]["verify_client"] == "optional"
    assert document["restapi"]["cafile"] == "/etc/patroni/ca-0123456789ab.pem"
    assert document["postgresql"]["parameters"]["ssl"] == "on"


def test_options_of_the_database_are_off_until_they_are_asked_for() -> None:
    document = patroni(3)
    settings = document["bootstrap"]["dcs"]
    assert settings["synchronous_mode_strict"] is False and settings["failsafe_mode"] is True
    assert settings["postgresql"]["parameters"]["archive_command"] == "/bin/true"
    assert "recovery_conf" not in document["postgresql"]
    assert document["watchdog"] == {"mode": "off"}
    document = patroni(
        3,
        database_synchronous_mode_strict=True,
        database_archive_command="archive %p",
        database_restore_command="fetch %f %p",
        database_watchdog="required",
    )
    settings = document["bootstrap"]["dcs"]
    assert settings["synchronous_mode_strict"] is True
    parameters = settings["postgresql"]["parameters"]
    assert (parameters["archive_command"], parameters["archive_timeout"]) == ("archive %p", 60)
    assert document["postgresql"]["recovery_conf"] == {"restore_command": "fetch %f %p"}
    assert document["watchdog"] == {"mode": "required", "device": "/dev/watchdog"}


def test_statements_are_counted_beside_what_else_is_preloaded() -> None:
    def preloaded(**more: Any) -> str:
        parameters = patroni(3, **more)["bootstrap"]["dcs"]["postgresql"]["parameters"]
        assert parameters["pg_stat_statements.track_utility"] == "off"  # passwords
        return str(parameters["shared_preload_libraries"])

    others = {"shared_preload_libraries": "auto_explain, pg_stat_statements", "jit": "off"}
    assert preloaded() == "pg_stat_statements"
    assert preloaded(database_parameters=others) == "auto_explain,pg_stat_statements"
    assert preloaded(database_statement_statistics=False) == ""


def test_an_exporter_may_sign_in_by_who_it_is() -> None:
    user = {"name": "exporter", "system_user": "prometheus"}
    document = patroni(1, database_users=[user])
    rules = document["postgresql"]["pg_hba"]
    assert rules.index("local all exporter peer map=users") < rules.index(
        "local all all scram-sha-256"
    )
    assert "users prometheus exporter" in document["postgresql"]["pg_ident"]


def etcd(template: str, **more: Any) -> dict[str, str]:
    """etcd's environment on the second of three hosts."""
    members = [{"name": f"db{n}", "address": f"198.51.100.3{n}"} for n in (1, 2, 3)]
    text = render(
        "database",
        template,
        inventory_hostname="db2",
        database_address="198.51.100.32",
        database_members=members,
        **DATABASE,
        **more,
    )
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_etcd_speaks_tls_only_and_asks_for_certificates() -> None:
    found = etcd("etcd.env.j2")
    urls = [
        url for name, urls in found.items() if name.endswith("_URLS") for url in urls.split(",")
    ]
    assert urls and all(url.startswith("https://") for url in urls)
    assert found["ETCD_TRUSTED_CA_FILE"] == found["ETCD_PEER_TRUSTED_CA_FILE"] == "/pki/ca.pem"
    assert "ETCD_CLIENT_CERT_AUTH" not in found, "its gateway would answer nobody"


def test_etcd_is_told_of_a_new_cluster_at_its_first_start_only() -> None:
    assert not any("INITIAL_CLUSTER" in name for name in etcd("etcd.env.j2"))
    joining = {
        "__database_etcd_cluster": "db1=https://x:2380",
        "__database_etcd_cluster_state": "existing",
    }
    found = etcd("etcd.first.j2", **joining)
    assert found["ETCD_INITIAL_CLUSTER_STATE"] == "existing"
    root = etcd("etcdctl.env.j2", database_etcd_root_password="it's")["ETCDCTL_PASSWORD"]
    assert shlex.split(root) == ["it's"]


def test_pgbouncer_takes_tls_and_scram_and_knows_the_inventory_s_databases_only() -> None:
    databases = [
        {"name": "jukebox", "owner": "jukebox"},
        {"name": "films", "owner": "jukebox", "pool_mode": "session", "pool_size": 5},
    ]
    given = {
        "inventory_hostname": "db1",
        "database_address": "198.51.100.31",
        "database_databases": databases,
        **DATABASE,
    }
    lines = render("database", "pgbouncer_databases.ini.j2", **given).splitlines()
    assert not any(line.startswith("*") for line in lines)
    assert any(
        "jukebox = " in line and "pool_mode=transaction pool_size=40" in line for line in lines
    )
    assert any("films = " in line and "pool_mode=session pool_size=5" in line for line in lines)
    settings = render("database", "pgbouncer.ini.j2", **given).splitlines()
    for line in ("client_tls_sslmode = require", "auth_type = hba", "listen_addr = 198.51.100.31"):
        assert line in settings
    rules = [
        line.split()
        for line in render("database", "pgbouncer_hba.conf.j2", **given).splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == ["local", "pgbouncer", "pgbouncer", "peer"]
    assert all(rule[0] == "hostssl" and rule[-1] == "scram-sha-256" for rule in rules[1:])
    assert "jukebox,films all 198.51.100.0/24" in " ".join(rules[-1])


def test_more_memory_means_more_buffers() -> None:
    def buffers(megabytes: int) -> str:
        parameters = patroni(1, database_memory_mb=megabytes)["postgresql"]["parameters"]
        return str(parameters["shared_buffers"])

    assert buffers(512) != buffers(8192)


def test_nginx_sends_audio_only_when_the_application_said_so() -> None:
    text = render(
        "streaming",
        "streaming.conf.j2",
        streaming_app="jukebox",
        streaming_app_user="jukebox",
        streaming_listen_address="198.51.100.21",
        streaming_media_origins=["198.51.100.61:8081"],
    )
    media = text.split("location /_media/", 1)[1].split("\n    }", 1)[0]
    assert "internal;" in media
    assert "server unix:/run/jukebox/current.sock" in text
    assert "198.51.100.61:8081" in text


def unit(role: str, template: str, **variables: Any) -> dict[str, list[str]]:
    """A unit file as {key: values}."""
    found: dict[str, list[str]] = {}
    for line in render(role, template, **variables).splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_processes_run_as_the_app_s_user_in_a_sandbox_and_may_finish() -> None:
    pool = {"name": "plays", "process_name": "worker-plays", "stop_timeout": 120}
    web = unit("streaming", "web.service.j2", streaming_app="jukebox", streaming_app_user="jukebox")
    worker = unit(
        "worker", "worker.service.j2", worker_app="jukebox", worker_app_user="jukebox", item=pool
    )
    for found, stop in ((web, "60"), (worker, "120")):
        assert found["User"] == ["jukebox"]
        assert found["KillMode"] == ["mixed"]
        assert found["TimeoutStopSec"] == [stop]
        assert found["NoNewPrivileges"] == ["yes"]
        assert found["ProtectSystem"] == ["strict"]
        assert found["CapabilityBoundingSet"] == [""]
        assert found["ExecStart"][0].endswith("--release %i")


def test_an_environment_file_survives_quotes_and_backslashes() -> None:
    text = render("app", "environment.j2", app_environment={"B": 'a"b\\c', "A": "plain"})
    assert text.splitlines()[-2:] == ['A="plain"', 'B="a\\"b\\\\c"']


BROKER = {
    "ansible_facts": FACTS,
    "inventory_hostname": "broker1",
    "broker_address": "198.51.100.41",
    "broker_members": [{"name": f"broker{n}", "address": f"198.51.100.4{n}"} for n in (1, 2, 3)],
    "broker_tls": {
        "ca": "/p/ca.pem",
        "certificate": "/p/host.pem",
        "key": "/p/host.key",
        "group": "pki",
    },
}


def test_the_broker_lets_nobody_in_without_tls() -> None:
    lines = render("broker", "rabbitmq.conf.j2", **BROKER).splitlines()
    assert "listeners.tcp = none" in lines
    assert "listeners.ssl.1 = 198.51.100.41:5671" in lines
    assert "prometheus.tcp.ip = 198.51.100.41" in lines
    assert not any("loopback_users" in line for line in lines)
    only = render("broker", "rabbitmq.conf.j2", **BROKER, broker_tls_versions=["tlsv1.3"])
    assert "renegotiat" not in only and "ssl_options.versions.2" not in only


def test_a_new_broker_finds_its_peers() -> None:
    text = render("broker", "members.conf.j2", **BROKER)
    for number in (1, 2, 3):
        assert f"classic_config.nodes.{number} = rabbit@broker{number}" in text


def test_brokers_and_their_tools_talk_tls_to_each_other() -> None:
    text = render("broker", "inter_node_tls.config.j2", **BROKER)
    assert text.count("{verify, verify_peer}") == 2
    assert text.count("{versions, ['tlsv1.3','tlsv1.2']}") == 2
    assert text.count("{fail_if_no_peer_cert, true}") == 1
    environment = render("broker", "rabbitmq-env.conf.j2", **BROKER)
    assert environment.count("-proto_dist inet_tls -ssl_dist_optfile") == 2
