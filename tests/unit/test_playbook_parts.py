"""The playbooks' own Python, loaded by path as Ansible does."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from backline.hostctl import cluster as members
from backline.hostctl import switchover
from backline.hostctl import upgrades as hostctl
from backline.operations.database import judge, look

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, PLAYBOOKS / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PATCHING, ROTATION = load("filter_plugins/patching.py"), load("filter_plugins/rotation.py")
IDLE, STALE = load("files/idle.py"), load("files/stale_units.py")
MEMBER, PROCESSES = load("files/database_member.py"), load("files/app_processes.py")
HAPROXY, WITHOUT = load("files/haproxy_server.py"), load("files/without_host.py")
UPKEEP = load("files/upkeep_mark.py")

# As apt 2.6 says it.
SIMULATION = """Reading package lists...
Inst openssl [3.0.17-1~deb12u1] (3.0.17-1~deb12u3 Debian-Security:12/oldstable-security [amd64])
Inst tzdata [2025a] (2025b Debian:12.12/oldstable [all])
Inst linux-image-6.1.0-41-amd64 (6.1.158-1 Debian-Security:12/oldstable-security [amd64])
Conf openssl (3.0.17-1~deb12u3 Debian-Security:12/oldstable-security [amd64])
"""


def test_only_security_upgrades_are_taken_unless_told_otherwise() -> None:
    assert [(p["name"], p["new"]) for p in PATCHING.upgrades(SIMULATION)] == [
        ("openssl", "3.0.17-1~deb12u3")
    ]
    assert [p["name"] for p in PATCHING.upgrades(SIMULATION, True)] == ["openssl", "tzdata"]


def test_fab_status_counts_as_waiting_what_fab_patch_brings_in() -> None:
    """hostctl runs on hosts and cannot be imported by plain Ansible, so what apt says is read twice."""
    assert hostctl.SECURITY.pattern == PATCHING.SECURITY.pattern
    other = "Inst vim [2:9.0] (2:9.1 Ubuntu:24.04/noble-security [amd64]) []\n"
    for simulation in (SIMULATION, SIMULATION + other):
        origins = hostctl.UPGRADE.findall(simulation)
        security = [origin for origin in origins if hostctl.SECURITY.search(origin)]
        assert len(origins) == len(PATCHING.upgrades(simulation, True))
        assert len(security) == len(PATCHING.upgrades(simulation))


def test_an_upgrade_that_removes_something_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="nginx"):
        PATCHING.upgrades(SIMULATION + "Remv nginx [1.22.1-9]\n")


def test_hosts_are_patched_kind_by_kind_and_zone_by_zone() -> None:
    groups = {"worker": ["w1"], "streaming": ["s1", "s2", "s3"], "edge": ["e1"], "media": ["w1"]}
    zones = {"s1": "a", "s2": "b", "s3": "a", "e1": "a", "w1": "a", "x1": "b"}
    hostvars = {host: {"zone": zone} for host, zone in zones.items()}
    kinds = ["monitor", "worker", "media", "streaming", "edge"]
    order = PATCHING.in_patch_order(["e1", "s1", "s2", "s3", "w1", "x1"], hostvars, groups, kinds)
    assert order == ["x1", "w1", "s1", "s3", "s2", "e1"]


def test_who_leads_is_patched_last_of_its_kind() -> None:
    groups = {"database": ["db1", "db2", "db3"], "broker": ["b1"], "worker": ["b1"]}
    hostvars: dict[str, dict[str, Any]] = {host: {} for host in ("db1", "db2", "db3", "b1")}
    kinds = ["worker", "broker", "database"]
    hosts = ["db1", "db2", "db3", "b1"]
    order = PATCHING.in_patch_order(hosts, hostvars, groups, kinds, ["db1"])
    assert order == ["b1", "db2", "db3", "db1"]
    hostvars["db3"]["__patch_left"] = {"rc": 0}
    hostvars["db2"]["__patch_left"] = {"rc": 1}
    order = PATCHING.in_patch_order(hosts, hostvars, groups, kinds, ["db1"])
    assert order == ["b1", "db3", "db2", "db1"], "where an earlier run ended half way comes first"


def cluster(**over: Any) -> dict[str, Any]:
    """A cluster that is well, as hostctl tells of it on its leader db1."""
    members = [
        {"name": "db1", "role": "leader", "state": "running"},
        {"name": "db2", "role": "sync_standby", "state": "streaming", "lag": 0},
        {"name": "db3", "role": "replica", "state": "streaming", "lag": 0},
    ]
    names = ["db1", "db2", "db3"]
    etcd = dict.fromkeys(names, "healthy")
    found = {"name": "db1", "peers": names, "members": members, "leader": "db1", "etcd": etcd}
    more = {"synchronous": True, "paused": False, "trouble": None, "pgbouncer": {}}
    return {**found, **more, **over}


HEALTHY = cluster()["members"]
ALONE = {"peers": ["db1"], "members": HEALTHY[:1], "etcd": {"db1": "healthy"}}


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({}, {"leads": True, "candidate": "db2", "alone": False}),
        ({"name": "db3"}, {"leads": False, "candidate": "", "alone": False}),
        ({"synchronous": False}, {"leads": True, "candidate": "db2", "alone": False}),
    ],
)
def test_a_database_goes_when_the_others_are_whole(over: Any, said: Any) -> None:
    assert MEMBER.spare(cluster(**over), False) == said


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"members": HEALTHY[:2]}, "db3 is missing"),
        ({"etcd": {**cluster()["etcd"], "db2": "refused"}}, "etcd of db2: refused"),
        ({"leader": None}, "nobody leads"),
        ({"paused": True}, "maintenance"),
        ({"pgbouncer": {"following": "198.51.100.2"}}, "has not come to its end"),
        ({"members": [*HEALTHY[:2], {**HEALTHY[2], "state": "stopped"}]}, "db3 is stopped"),
        (
            {"members": [HEALTHY[0], {**HEALTHY[2], "name": "db2"}, HEALTHY[2]]},
            "no synchronous standby",
        ),
        (
            {"members": [*HEALTHY[:2], {**HEALTHY[2], "lag": 1 << 30}]},
            "db3 is 1073741824 bytes behind",
        ),
        (
            {"members": [*HEALTHY[:2], {**HEALTHY[2], "lag": "unknown"}]},
            "db3 is unknown bytes behind",
        ),
        (ALONE, "patch_outage"),
    ],
)
def test_a_database_stays_when_there_would_be_no_spare(over: Any, why: str) -> None:
    with pytest.raises(SystemExit, match=why):
        MEMBER.spare(cluster(**over), False)


def test_everybody_has_the_same_words_for_a_member_that_can_take_over() -> None:
    """On a host without Backline, in the controller, and where it is carried out."""
    for other in (look, MEMBER):
        assert (other.LEADERS, other.SYNC) == (members.LEADERS, members.SYNC)
    assert look.GOOD == members.GOOD
    assert judge.LAG_MOST == MEMBER.LAG_MOST == switchover.LAG_MOST


def test_a_database_that_leads_again_does_not_boot() -> None:
    with pytest.raises(SystemExit, match="leads by now"):
        MEMBER.spare(cluster(), False, True)
    assert MEMBER.spare(cluster(name="db3"), False, True)["leads"] is False
    assert MEMBER.spare(cluster(**ALONE), True, True)["alone"] is True


def test_the_only_database_goes_when_an_outage_is_accepted() -> None:
    assert MEMBER.spare(cluster(**ALONE), True)["alone"] is True


def test_the_next_database_waits_until_this_one_is_in_step() -> None:
    assert MEMBER.behind(cluster(), False) == []
    assert MEMBER.behind(cluster(), True) == ["it still leads"]
    lagging = [*HEALTHY[:2], {**HEALTHY[2], "lag": 16}]
    assert MEMBER.behind(cluster(members=lagging), False) == ["db3 is 16 bytes behind"]
    unknown = [*HEALTHY[:2], {**HEALTHY[2], "lag": "unknown"}]
    assert MEMBER.behind(cluster(members=unknown), False) == ["db3 is unknown bytes behind"]


@pytest.mark.parametrize(
    ("over", "outage", "why"),
    [
        ({"etcd": {**cluster()["etcd"], "db2": "refused"}}, True, "db2: refused"),
        (ALONE, False, "alone"),
    ],
)
def test_etcd_is_not_restarted_when_its_majority_would_be_lost(
    monkeypatch: pytest.MonkeyPatch, over: Any, outage: bool, why: str
) -> None:
    monkeypatch.setattr(MEMBER, "ask", lambda: cluster(**over))
    monkeypatch.setattr(
        MEMBER.subprocess, "run", lambda *words, **options: pytest.fail("restarted")
    )
    with pytest.raises(SystemExit, match=why):
        MEMBER.restart_etcd(outage)


STAT = """# pxname,svname,scur,status,
https,FRONTEND,{sessions},OPEN,
metrics,FRONTEND,1,OPEN,
streaming,stream1,3,{one},
streaming,stream2,2,{two},
streaming,BACKEND,5,UP,
"""


@pytest.mark.parametrize(
    ("wanted", "one", "two", "reached"),
    [
        ("in", "UP", "UP", True),
        ("in", "UP 1/2", "UP", False),
        ("in", "MAINT", "UP", True),
        ("in", "NOLB", "UP", False),
        ("out", "NOLB", "UP", True),
        ("out", "DRAIN", "UP", True),
        ("out", "UP 1/2", "UP", False),
        ("spare", "UP", "UP", True),
        ("spare", "UP", "NOLB", False),
        ("spare", "UP", "DOWN", False),
        ("spare", "NOLB", "DOWN", True),
        ("other", "NOLB", "UP", True),
        ("other", "NOLB", "NOLB", False),
        ("other", "NOLB", "MAINT", False),
    ],
)
def test_the_last_server_that_is_up_may_not_leave(
    wanted: str, one: str, two: str, reached: bool
) -> None:
    backends = HAPROXY.states(STAT.format(sessions=0, one=one, two=two))
    assert HAPROXY.reached(wanted, "stream1", backends) is reached


def test_a_balancer_has_somebody_when_one_of_several_is_up() -> None:
    for one, two, some in (("NOLB", "UP", True), ("UP", "MAINT", True), ("MAINT", "DOWN", False)):
        backends = HAPROXY.states(STAT.format(sessions=0, one=one, two=two))
        assert HAPROXY.reached("some", "stream1,stream2,stream9", backends) is some


def test_a_server_that_the_balancer_does_not_know_is_out_and_not_in() -> None:
    backends = HAPROXY.states(STAT.format(sessions=0, one="UP", two="UP"))
    assert HAPROXY.reached("out", "stream9", backends)
    assert not HAPROXY.reached("in", "stream9", backends)


def test_a_download_of_an_old_worker_keeps_nginx_busy() -> None:
    status = "Active connections: 9 \nReading: 0 Writing: 1 Waiting: 8 \n"
    assert IDLE.nginx_busy(status, ["nginx: worker process"]) == ""
    assert IDLE.nginx_busy(status, ["nginx: worker process is shutting down"])
    assert IDLE.nginx_busy(status.replace("Writing: 1", "Writing: 2"), [])


def test_sessions_of_listeners_keep_haproxy_busy_and_metrics_do_not() -> None:
    programs = ["/usr/sbin/haproxy -Ws -f x", "/usr/sbin/haproxy -sf 1 -Ws -f x"]
    quiet, busy = (
        STAT.format(sessions=0, one="UP", two="UP"),
        STAT.format(sessions=2, one="", two=""),
    )
    assert IDLE.haproxy_busy(quiet, programs) == ""
    assert IDLE.haproxy_busy(busy, programs)
    assert IDLE.haproxy_busy(quiet, [*programs, "/usr/sbin/haproxy -Ws -f x"])


def test_bytes_that_the_kernel_still_has_to_send_are_waited_for() -> None:
    head = "  sl  local_address rem_address   st tx_queue:rx_queue tr tm->when\n"
    row = "   1: {local} {peer} {state} {unsent}:00000000 01:00000014 00000000\n"

    def busy(**over: str) -> str:
        fields = {
            "local": "160712C6:1F90",
            "peer": "0B0712C6:9C44",
            "state": "04",
            "unsent": "002AF000",
        }
        return str(IDLE.kernel_busy(head + row.format(**{**fields, **over})))

    assert busy(), "a download in FIN-WAIT with bytes left would die with the host"
    assert not busy(unsent="00000000")
    assert not busy(local="160712C6:0016"), "our own SSH"
    assert not busy(peer="0100007F:9C44")
    assert not busy(state="0A"), "a listening socket counts its backlog there"


MAPS = (
    "55d0 r-xp 00000000 00:1 42 /usr/sbin/nginx{}\n7f00 rw-s 00000000 00:1 43 /dev/zero (deleted)\n"
)


def test_a_daemon_is_stale_when_its_program_is_gone_from_the_disk() -> None:
    assert STALE.deleted_code(MAPS.format(" (deleted)"))
    assert not STALE.deleted_code(MAPS.format("")), "shared memory is no program"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("1:name=systemd:/libpod_parent/libpod-1/system.slice/a@1.service\n0::/x\n", "a@1.service"),
        ("0::/init.scope\n", "init.scope"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service\n", ""),
        ("0::/\n", ""),
    ],
)
def test_a_process_belongs_to_the_unit_of_its_control_group(cgroup: str, unit: str) -> None:
    assert STALE.unit_of(cgroup) == unit


OLD = {"USER": "app", "PASSWORD": "old", "KEY": "k-old"}
NEW = {"USER": "app", "PASSWORD": "new", "KEY": "k-new"}


def test_a_daemon_is_stale_whose_package_was_unpacked_after_it_started() -> None:
    """As RabbitMQ's, whose code is in no file that stays open."""
    units = {"rabbitmq-server.service": (100.0, "/lib/r"), "cron.service": (300.0, "/lib/c")}
    units["patroni.service"] = (100.0, "/etc/systemd/system/patroni.service")
    unpacked = {"/lib/r": 200.0, "/lib/c": 200.0}
    assert STALE.replaced_since(units, unpacked) == {"rabbitmq-server.service"}


def test_an_environment_file_is_read_as_it_was_written() -> None:
    text = '# Ansible managed\nURL="amqp://a:b\\"c\\\\d@x"\nEMPTY=""\nnot a line\n'
    assert ROTATION.environment(text) == {"URL": 'amqp://a:b"c\\d@x', "EMPTY": ""}


def test_the_old_key_is_found_after_a_run_that_was_cut_short() -> None:
    bridged = {"USER": "app_rotation", "PASSWORD": "new", "KEY": "k-old", "KEY_FALLBACKS": "k-new"}
    done = {**NEW, "KEY_FALLBACKS": "k-old"}
    for hosts in ([OLD, OLD], [bridged, OLD], [done, bridged], [done, done]):
        assert ROTATION.old_values(hosts, NEW)["KEY"] == "k-old", hosts


def test_nothing_is_pending_once_every_host_was_told() -> None:
    assert ROTATION.pending([{**NEW, "KEY_FALLBACKS": "k-old"}, OLD], NEW)
    assert not ROTATION.pending([{**NEW, "KEY_FALLBACKS": "k-old"}], NEW)


def test_a_host_leaves_every_group_of_the_copied_inventory(tmp_path: Path) -> None:
    source, target = tmp_path / "lab", tmp_path / "copy"
    (source / "group_vars").mkdir(parents=True)
    target.mkdir()
    hosts: dict[str, Any] = {
        "all": {
            "hosts": {"s1": {"fleet_address": "198.18.0.21"}, "s2": {}},
            "children": {
                "streaming": {"hosts": {"s1": None, "s2": None}},
                "zone_a": {"hosts": {"s1": None}},
            },
        }
    }
    (source / "hosts.yml").write_text(yaml.safe_dump(hosts))
    WITHOUT.main(str(source), str(target), "s1")
    assert "s1" not in (target / "inventory/hosts.yml").read_text()
    assert "s2" in (target / "inventory/hosts.yml").read_text()
    assert target.stat().st_mode & 0o077 == 0
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(SystemExit):
        WITHOUT.main(str(source), str(other), "s9")


def test_an_application_that_systemd_gave_up_is_forgotten_and_then_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Warm releases too: one failed unit is enough for a host to be called ill."""
    live = {"process": "web", "kind": "http", "release": "R", "unit": "jukebox-web@R.service"}
    ran: list[list[str]] = []
    monkeypatch.setattr(PROCESSES, "units", lambda app: [live])
    monkeypatch.setattr(PROCESSES, "hostctl", lambda verb, **fields: ran.append([verb]) or {})
    monkeypatch.setattr(PROCESSES.subprocess, "run", lambda argv, check: ran.append(argv))
    PROCESSES.main("forget", "jukebox", "0")
    assert ran == [["systemctl", "reset-failed", "jukebox-web@*.service"]]
    ran.clear()
    PROCESSES.main("restart", "jukebox", "60")
    assert ran == [
        ["systemctl", "try-restart", "jukebox-web@*.service"],
        ["systemctl", "start", "jukebox-web@R.service"],
        ["check"],
    ]


class Pools:
    """A worker host of which systemd and hostctl tell; `active`: its pools, `failed` or `active`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, active: dict[str, str]
    ) -> None:
        self.active = active
        self.flag = folder / "drain"
        monkeypatch.setattr(PROCESSES, "FLAG", self.flag)
        monkeypatch.setattr(PROCESSES, "RESTING", folder / "resting")
        monkeypatch.setattr(PROCESSES, "Path", self.path)
        monkeypatch.setattr(PROCESSES, "hostctl", self.hostctl)
        monkeypatch.setattr(PROCESSES.subprocess, "run", self.systemctl)
        for name in ("app", *("processes/" + pool for pool in active)):
            place = self.path(f"/etc/backline/apps/jukebox/{name}.json")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps({"unit": f"{place.stem}@.service"}))

    def path(self, name: str) -> Path:
        return self.flag.parent / name.lstrip("/")

    def hostctl(self, verb: str, **fields: Any) -> Any:
        if verb == "check":
            assert self.active[fields["process"]] == "active"
        processes = {
            pool: {
                "kind": "worker",
                "live": "R",
                "instances": [{"release": "R", "active": state}] if state != "inactive" else [],
            }
            for pool, state in self.active.items()
        }
        return {"processes": processes}

    def systemctl(self, argv: list[str], check: bool) -> None:
        states = {"start": "active", "stop": "inactive"}
        for unit in argv[2:]:
            pool = unit.partition("@")[0]
            self.active[pool] = states.get(argv[1], self.active[pool])


@pytest.mark.parametrize("action", ["start", "restart"])
@pytest.mark.parametrize("drained_by", ["patch-1", "drain-1", ""])
def test_pools_that_rested_before_a_patch_rest_after_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str, drained_by: str
) -> None:
    """Who stopped them does not matter: an operator, for the pool or the host, or a deploy."""
    was = {"failed": "failed", "mails": "inactive", "plays": "active", "slow": "deactivating"}
    host = Pools(monkeypatch, tmp_path, dict(was))
    host.flag.write_text(drained_by)
    PROCESSES.main("stop-workers", "jukebox", "0")
    assert set(host.active.values()) == {"inactive"}
    # A run that ended here, and the next one.
    PROCESSES.main("stop-workers", "jukebox", "0")
    PROCESSES.main(action, "jukebox", "60")
    after = {"failed": "active", "mails": "inactive", "plays": "active", "slow": "inactive"}
    assert host.active == after
    assert not PROCESSES.RESTING.exists()


def test_what_an_earlier_run_saw_resting_is_not_true_of_a_later_drain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Pools(monkeypatch, tmp_path, {"mails": "inactive", "plays": "active"})
    host.flag.write_text("patch-1")
    PROCESSES.main("stop-workers", "jukebox", "0")
    host.active["mails"] = "active"  # as by a deploy, and then the same drain again
    PROCESSES.main("stop-workers", "jukebox", "0")
    assert PROCESSES.resting()["pools"] == []
    host.active.update(mails="active", plays="inactive")  # undrained, and another pool put to rest
    host.flag.write_text("patch-2")
    PROCESSES.main("stop-workers", "jukebox", "0")
    PROCESSES.main("start", "jukebox", "60")
    assert host.active == {"mails": "active", "plays": "inactive"}


def test_who_waits_for_downloads_ends_when_nobody_waits_for_it() -> None:
    program = "import idle, sys; idle.nginx = lambda: 'a download'; idle.main('60')"
    waiting = subprocess.Popen(
        [sys.executable, "-B", "-c", program],
        cwd=PLAYBOOKS / "files",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1.5)
    assert waiting.stdout and waiting.stderr
    waiting.stdout.close()
    assert waiting.wait(10) == 1 and b"nobody waits" in waiting.stderr.read()
    waiting.stderr.close()


A, B = "patch-20261126T030500Z-ann-1234", "patch-20261126T031000Z-bob-5678"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run A has written on the host that it works there."""
    monkeypatch.setattr(UPKEEP, "MARK", tmp_path / "upkeep")
    assert UPKEEP.main("look", A) == UPKEEP.main("take", A) == {"left": ""}
    return tmp_path / "upkeep"


def test_of_two_runs_only_one_works_on_a_host(mark: Path) -> None:
    for action in ("look", "take"):
        for killed in ("", "patch-of-another-host"):
            with pytest.raises(SystemExit, match=f"{A} is at work here"):
                UPKEEP.main(action, B, killed)
    for action in ("leave", "drop"):
        UPKEEP.main(action, B)
    UPKEEP.main("keep", A)
    assert mark.read_text() == f"{A}\n" and mark.stat().st_mtime > 1
    UPKEEP.main("drop", A)
    assert not mark.exists()


@pytest.mark.parametrize("over", ["killed", "stopped", "old"])
def test_what_a_run_left_is_gone_on_with(mark: Path, over: str) -> None:
    if over == "stopped":
        UPKEEP.main("leave", A)
    if over == "old":
        os.utime(mark, (time.time() - UPKEEP.LONGEST,) * 2)
    killed = f"patch-before,{A}" if over == "killed" else ""
    assert UPKEEP.main("look", B, killed) == {"left": A}
    assert mark.read_text() == f"{A}\n", "looking changes nothing"
    assert UPKEEP.main("take", B, killed) == {"left": A}
    with pytest.raises(SystemExit, match=f"{B} is at work here by now"):
        UPKEEP.main("keep", A)
    UPKEEP.main("drop", A)
    assert mark.read_text() == f"{B}\n"


ROLES = PLAYBOOKS.parent / "roles"
OWN = re.compile(r"\b__[a-z]\w*")
"""A variable that nobody outside sets."""


@cache
def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def parts_of(playbook: Path) -> dict[Path, Any]:
    """What a playbook is made of: itself, and whatever it includes by its path."""
    found: dict[Path, Any] = {}
    left = [playbook.resolve()]
    while left:
        path = left.pop()
        if path in found:
            continue
        found[path] = document(path)
        for key, value in pairs(found[path]):
            if key.rpartition(".")[2] in ("include_tasks", "import_tasks", "import_playbook"):
                name = value if isinstance(value, str) else value["file"]
                left.append((path.parent / name).resolve())
    return found


def pairs(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a document with its value, however deep."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield str(key), value
            yield from pairs(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from pairs(value)


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_what_a_part_of_a_playbook_asks_for_is_given_to_it(playbook: Path) -> None:
    """Parts are shared: one that begins to ask for more has to be given it by all who include it."""
    parts = parts_of(playbook)
    elsewhere = [*PLAYBOOKS.glob("group_vars/*.yml"), *ROLES.glob("*/tasks/**/*.yml")]
    trees = [*parts.values(), *(document(path) for path in elsewhere)]
    found = [pair for tree in trees for pair in pairs(tree)]
    given = {str(value) if key == "register" else key for key, value in found}
    asked = set()
    for path in parts:
        lines = path.read_text(encoding="utf-8").splitlines()
        asked |= {name for line in lines for name in OWN.findall(line.partition("# ")[0])}
    assert sorted(asked - given) == []
