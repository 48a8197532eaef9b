"""What the exporters are started with, and what they may do on the host."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.templates.test_templates import render

ROOT = Path(__file__).parents[2]
FOLDER = "/var/lib/prometheus/node-exporter"
DROP_INS = [("node.conf.j2", 9100), ("nginx.conf.j2", 9113), ("postgresql.conf.j2", 9187)]
SANDBOXED = [
    "node.conf.j2", "nginx.conf.j2", "postgresql.conf.j2",
    "backline-metrics.service.j2", "pgbouncer-metrics.service.j2",
]  # fmt: skip


def settings(template: str, **more: Any) -> dict[str, list[str]]:
    """A unit's settings, read as systemd does: a backslash goes on in the next line."""
    found: dict[str, list[str]] = {}
    for line in render("exporters", template, **more).replace("\\\n", " ").splitlines():
        if line and not line.startswith(("#", "[")):
            key, equals, value = line.partition("=")
            assert equals and re.fullmatch(r"[A-Z][A-Za-z]+", key), line
            found.setdefault(key, []).append(value)
    return found


def flags(template: str, **more: Any) -> dict[str, str]:
    """The flags of the program that a drop-in starts instead of what the package starts."""
    cleared, command = settings(template, **more)["ExecStart"]
    # Without the empty one, systemd refuses a second command and starts nothing.
    assert cleared == ""
    _, *words = shlex.split(command)
    assert all(word.startswith("-") for word in words), words
    return {key.lstrip("-"): value for key, _, value in (word.partition("=") for word in words)}


@pytest.mark.parametrize(("template", "port"), DROP_INS)
def test_an_exporter_listens_on_the_fleets_address_alone(template: str, port: int) -> None:
    assert flags(template)["web.listen-address"] == f"127.0.0.1:{port}"
    found = flags(template, exporters_listen_address="198.51.100.21")
    assert found["web.listen-address"] == f"198.51.100.21:{port}"


@pytest.mark.parametrize("template", [template for template, _ in DROP_INS])
def test_an_exporter_that_ends_is_started_again(template: str) -> None:
    # It is also lost when the command above goes on into this line.
    assert settings(template)["Restart"] == ["always"]


def test_only_collectors_that_somebody_looks_at_run() -> None:
    found = flags("node.conf.j2", __exporters_collectors=["cpu", "textfile"])
    on = {key for key in found if re.fullmatch(r"collector\.[^.]+", key)}
    assert on == {"collector.disable-defaults", "collector.cpu", "collector.textfile"}


def test_what_the_alerts_and_the_releases_need_is_collected() -> None:
    found = flags("node.conf.j2")
    for name in ("cpu", "filesystem", "meminfo", "systemd", "textfile", "time"):
        assert f"collector.{name}" in found


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        ("nginx.service", True),
        ("backline-metrics.timer", True),
        ("srv.mount", True),
        ("session-1.scope", False),
        ("nginx-service", False),
    ],
)
def test_services_mounts_and_timers_are_told_of(unit: str, told: bool) -> None:
    # The exporter anchors it.
    pattern = flags("node.conf.j2")["collector.systemd.unit-include"].replace("\\\\", "\\")
    assert bool(re.fullmatch(pattern, unit)) is told


@pytest.mark.parametrize(
    ("kind", "told"),
    [("ext4", True), ("xfs", True), ("tmpfs", True), ("proc", False), ("cgroup2", False)],
)
def test_file_systems_that_can_fill_up_are_told_of(kind: str, told: bool) -> None:
    pattern = flags("node.conf.j2")["collector.filesystem.fs-types-exclude"]
    assert (re.search(pattern, kind) is None) is told


def test_the_node_exporter_sees_the_host_s_mounts_and_homes() -> None:
    found = settings("node.conf.j2")
    assert found["ProtectProc"][-1] == "default" and found["ProtectHome"][-1] == "read-only"


def test_nginx_is_asked_where_it_answers() -> None:
    assert flags("nginx.conf.j2")["nginx.scrape-uri"] == "http://127.0.0.1:8082/stub_status"
    there = "http://127.0.0.1:8099/state"
    assert flags("nginx.conf.j2", exporters_nginx_status=there)["nginx.scrape-uri"] == there


def test_the_role_nginx_answers_there() -> None:
    role = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
    _, _, address, path = flags("nginx.conf.j2")["nginx.scrape-uri"].split("/")
    assert address == role["nginx_status_listen"]
    assert f"location = /{path} {{" in (ROOT / "roles/nginx/templates/nginx.conf.j2").read_text()


def test_the_node_exporter_reads_the_releases_where_they_are_written() -> None:
    assert flags("node.conf.j2")["collector.textfile.directory"] == FOLDER
    found = settings("backline-metrics.service.j2")
    assert found["ReadWritePaths"] == [FOLDER]
    program = (ROOT / "roles/exporters/files/backline-metrics").read_text()
    assert f'"{FOLDER}/backline.prom"' in program
    tasks = (ROOT / "roles/exporters/tasks/releases.yml").read_text()
    assert f"dest: {found['ExecStart'][0].split()[-1]}\n" in tasks


@pytest.mark.parametrize("template", SANDBOXED)
def test_a_hole_in_an_exporter_leads_nowhere(template: str) -> None:
    found = settings(template, exporters_memory_max="96M")
    wanted = {
        "AmbientCapabilities": "",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
        "MemoryMax": "96M",
        "NoNewPrivileges": "yes",
        "PrivateDevices": "yes",
        "PrivateTmp": "yes",
        "ProtectHome": "read-only" if template == "node.conf.j2" else "yes",
        "ProtectSystem": "strict",
        "RestrictNamespaces": "yes",
        "RestrictSUIDSGID": "yes",
        "SystemCallArchitectures": "native",
    }
    # Of a setting that stands there twice the last one counts.
    assert {key: found[key][-1] for key in wanted} == wanted
    # The first one allows, the second takes away again: in this order only.
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


@pytest.mark.parametrize(
    ("template", "families", "proc"),
    [
        # The node exporter needs netlink for the network's counters, and all of /proc.
        ("node.conf.j2", "AF_UNIX AF_INET AF_INET6 AF_NETLINK", None),
        ("nginx.conf.j2", "AF_UNIX AF_INET AF_INET6", ["pid"]),
        ("postgresql.conf.j2", "AF_UNIX AF_INET AF_INET6", ["pid"]),
        ("backline-metrics.service.j2", "none", ["pid"]),
        ("pgbouncer-metrics.service.j2", "AF_UNIX", ["pid"]),
    ],
)
def test_each_may_talk_and_see_only_what_it_needs(
    template: str, families: str, proc: list[str] | None
) -> None:
    found = settings(template)
    assert found["RestrictAddressFamilies"] == [families]
    assert found.get("ProcSubset") == proc
    private = template.endswith(".service.j2")
    assert found.get("PrivateNetwork") == (["yes"] if private else None)


@pytest.mark.parametrize("name", ["backline-metrics", "pgbouncer-metrics"])
def test_text_files_are_written_from_the_start_and_in_time(name: str) -> None:
    timer = settings(f"{name}.timer.j2")
    # The second one counts from the last run: without the first one there would never be any.
    assert timer["OnActiveSec"] == ["1"] and timer["WantedBy"] == ["timers.target"]
    # systemd's own accuracy is a minute.
    assert timer["AccuracySec"] == ["1"]
    patience = settings(f"{name}.service.j2")["TimeoutStartSec"][0]
    assert int(patience) < int(timer["OnUnitActiveSec"][0]) == 15


def test_the_exporter_signs_in_as_who_it_is_and_with_no_secret() -> None:
    found = settings("postgresql.conf.j2", exporters_postgresql_port=5433)
    # What the package's file says would come later, and it says nothing.
    assert found["EnvironmentFile"] == [""]
    (word,) = shlex.split(found["Environment"][0])
    name, _, source = word.partition("=")
    given = dict(pair.split("=", 1) for pair in source.split())
    assert name == "DATA_SOURCE_NAME" and "password" not in given
    assert (given["host"], given["port"], given["dbname"]) == (
        "/run/postgresql",
        "5433",
        "postgres",
    )
    # A question that hangs ends before Prometheus gives up, and with it the number of what hangs.
    patience = yaml.safe_load((ROOT / "roles/monitor/defaults/main.yml").read_text())
    longest = int(patience["monitor_scrape_timeout"].removesuffix("s")) * 1000
    assert int(given["statement_timeout"]) < longest


@pytest.mark.parametrize(
    "folder",
    ["inventory/lab", "inventory/staging", "inventory/production", "templates/environment"],
)
def test_every_environment_lets_the_exporter_in(folder: str) -> None:
    told = settings("postgresql.conf.j2")["Environment"][0]
    users = yaml.safe_load((ROOT / folder / "group_vars/database.yml").read_text())[
        "database_users"
    ]
    (found,) = [user for user in users if user.get("system_user") == "prometheus"]
    assert f"user={found['name']} " in told and found["roles"] == ["pg_monitor"]
    assert "password" not in found


def test_what_is_asked_of_postgresql_is_read_from_where_it_is_written() -> None:
    path = flags("postgresql.conf.j2")["extend.query-path"]
    tasks = (ROOT / "roles/exporters/tasks/postgresql.yml").read_text()
    role = yaml.safe_load((ROOT / "roles/exporters/vars/main.yml").read_text())
    assert (
        path == role["__exporters_postgresql_queries"]
        and 'dest: "{{ __exporters_postgresql_queries }}"' in tasks
    )


def test_pgbouncer_is_asked_by_whom_it_lets_in_and_where_it_answers() -> None:
    found = settings("pgbouncer-metrics.service.j2")
    role = yaml.safe_load((ROOT / "roles/database/vars/main.yml").read_text())
    ports = yaml.safe_load((ROOT / "roles/database/defaults/main.yml").read_text())
    *_, program, folder, port, target = found["ExecStart"][0].split()
    assert (folder, int(port)) == (
        role["__database_pgbouncer_dir"],
        ports["database_pgbouncer_port"],
    )
    assert found["User"] == ["pgbouncer"]
    assert Path(target).parent == Path("/var/lib") / found["StateDirectory"][0]
    tasks = (ROOT / "roles/exporters/tasks/pgbouncer.yml").read_text()
    assert f"dest: {program}\n" in tasks and f"path: {FOLDER}/backline_pgbouncer.prom" in tasks


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [(["streaming"], True), (["worker", "media"], True), (["database"], False), ([], False)],
)
def test_nginx_is_told_of_where_there_is_one(groups: list[str], wanted: bool) -> None:
    play = yaml.safe_load((ROOT / "playbooks/monitor.yml").read_text())[0]
    given = play["roles"][0]["vars"]
    templar = Templar(DataLoader(), variables={"group_names": groups})
    assert templar.template(trust_as_template(given["exporters_nginx"])) is wanted


@pytest.mark.parametrize(
    ("groups", "wanted"), [(["database", "broker"], True), (["streaming"], False)]
)
def test_postgresql_and_pgbouncer_are_told_of_where_they_are(
    groups: list[str], wanted: bool
) -> None:
    play = yaml.safe_load((ROOT / "playbooks/monitor.yml").read_text())[0]
    given = play["roles"][0]["vars"]
    templar = Templar(DataLoader(), variables={"group_names": groups})
    for toggle in ("exporters_postgresql", "exporters_pgbouncer"):
        assert templar.template(trust_as_template(given[toggle])) is wanted
