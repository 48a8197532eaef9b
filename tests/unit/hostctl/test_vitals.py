"""The whole picture of a host in one answer: what `fab status` shows."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import cli, tiers, upgrades
from backline.hostctl.errors import HostctlError
from backline.hostctl.host import Completed, Host

from .fake_cluster import FakeCluster, make_certificates
from .fake_host import R1, Lab, short_folder

SIMULATION = """\
NOTE: This is only a simulation!
Inst libssl3 [3.0.15-1] (3.0.16-1~deb12u1 Debian-Security:12/stable-security [amd64])
Inst curl [7.88.1-10] (7.88.1-11 Debian:12.9/stable [amd64])
Inst brand-new (1.0 Debian-Security:12/stable-security [amd64])
Conf libssl3 (3.0.16-1~deb12u1 Debian-Security:12/stable-security [amd64])
"""


def write(root: Path, path: str, text: str) -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


@pytest.fixture
def proc(lab: Lab) -> Lab:
    """A host whose first process began 400 s after its kernel; its clock says 1000."""
    write(lab.root, "proc/loadavg", "0.42 1.50 2.00 1/100 4242\n")
    write(
        lab.root,
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 250 kB\nSwapTotal: 8 kB\nSwapFree: 2 kB\n",
    )
    ticks = 400 * os.sysconf("SC_CLK_TCK")
    write(lab.root, "proc/1/stat", f"1 (system) d) S {' '.join(['0'] * 18)} {ticks} 0 0\n")
    return lab


def test_the_whole_picture_comes_with_one_question(proc: Lab) -> None:
    proc.plant(R1)
    answer = proc.ok("facts", app=..., run=..., token=..., wide=True)
    signs = answer["vitals"]
    assert signs["load"]["averages"] == [0.42, 1.5, 2.0] and signs["load"]["processors"] >= 1
    assert signs["memory"] == {"total": 1024000, "available": 256000, "swap_used": 6144}
    assert signs["uptime"] == 600
    assert signs["reboot"] == {"due": False, "since": None, "packages": []}
    assert signs["failed_units"] == [] and signs["certificates"] == []
    assert signs["database"] is None and signs["broker"] is None and signs["upgrades"] is None
    assert [disk["place"] for disk in signs["disks"]] == ["/"]
    assert 0 < signs["disks"][0]["free"] <= signs["disks"][0]["size"]
    assert answer["statuses"]["jukebox"]["releases"][0]["id"] == R1
    json.dumps(answer, allow_nan=False)


def test_the_host_with_the_backups_tells_how_its_jobs_went(proc: Lab) -> None:
    assert proc.ok("facts", app=..., run=..., token=..., wide=True)["vitals"]["backups"] is None
    write(proc.root, "etc/backline/backup.json", '{"state_dir": "/var/lib/backline-backup"}')
    write(proc.root, "etc/systemd/system/backline-backup@.service", "")
    write(
        proc.root, "var/lib/backline-backup/drill.json", '{"good": false, "began": 1, "ended": 2}'
    )
    told = proc.ok("facts", app=..., run=..., token=..., wide=True)["vitals"]["backups"]
    assert told == {"drill": {"good": False, "ended": 2}}


def test_whoever_does_not_ask_for_it_does_not_wait_for_it(proc: Lab) -> None:
    assert not {"vitals", "statuses"} & set(proc.ok("facts"))


def test_what_cannot_be_read_is_not_known_and_hides_nothing_else(proc: Lab) -> None:
    write(proc.root, "proc/meminfo", "MemTotal: many\n")
    write(proc.root, "proc/loadavg", "")
    proc.path("proc/1/stat").unlink()
    signs = proc.ok("facts", wide=True)["vitals"]
    assert signs["memory"] is None and signs["uptime"] is None
    assert signs["load"]["averages"] == [] and signs["reboot"]["due"] is False


def test_an_app_whose_state_is_damaged_does_not_hide_the_host(proc: Lab) -> None:
    write(proc.root, "var/lib/backline/jukebox/state.json", "{")
    answer = proc.ok("facts", app=..., wide=True)
    assert "not readable" in answer["statuses"]["jukebox"]["trouble"]
    assert answer["vitals"]["memory"]["total"] == 1024000


def test_a_reboot_names_its_packages(proc: Lab) -> None:
    write(proc.root, "run/reboot-required", "*** System restart required ***\n")
    write(proc.root, "run/reboot-required.pkgs", "linux-image-amd64\nlibc6\nlibc6\n")
    os.utime(proc.path("run/reboot-required"), (1000, 1000))
    reboot = proc.ok("facts", wide=True)["vitals"]["reboot"]
    assert reboot == {"due": True, "since": 1000, "packages": ["libc6", "linux-image-amd64"]}


def test_failed_units_are_named(proc: Lab) -> None:
    proc.systemd.unit("certbot.service")["active"] = "failed"
    proc.systemd.unit("nginx.service")["active"] = "active"
    assert proc.ok("facts", wide=True)["vitals"]["failed_units"] == ["certbot.service"]


def test_a_live_process_is_asked_and_says_that_it_is_ill(proc: Lab) -> None:
    proc.plant(R1)
    proc.take()
    proc.ok("start", release=R1, process="web")
    proc.ok("switch", release=R1, process="web")
    processes = proc.ok("facts", wide=True)["statuses"]["jukebox"]["processes"]
    assert processes["web"]["health"]["ok"] is True
    assert "health" not in processes["beat"]
    proc.systemd.answer = lambda path: 503
    processes = proc.ok("facts", wide=True)["statuses"]["jukebox"]["processes"]
    assert (processes["web"]["health"]["ok"], processes["web"]["health"]["status"]) == (False, 503)


class Apt:
    """A host's systemd, which does at once what it is told to, and its apt. Counts who asks it."""

    def __init__(self, root: Path, ended: Completed) -> None:
        self.host = Host(root, run=self)
        self.ended, self.asked, self.ordered = ended, 0, 0
        self.starts = True

    def __call__(self, argv: Sequence[str], **options: Any) -> Completed:
        if argv[0] == "systemd-run":
            assert list(argv[-2:]) == ["/usr/local/bin/hostctl", "upgrades"]
            assert "--property=CPUSchedulingPolicy=idle" in argv and "--no-block" in argv
            self.ordered += 1
            if self.starts:
                cli.main(["upgrades"], self.host)
            return Completed(0, "", "")
        assert list(argv) == ["apt-get", "--simulate", "--quiet", "dist-upgrade"]
        self.asked += 1
        return self.ended

    def known(self) -> dict[str, int] | None:
        return upgrades.known(self.host)


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    write(tmp_path, "var/lib/apt/lists/mirror_dists_bookworm_Packages", "x")
    write(tmp_path, "var/lib/dpkg/status", "x")
    return Apt(tmp_path, Completed(0, SIMULATION, ""))


def test_apt_is_asked_once_and_again_when_something_changed(apt: Apt) -> None:
    assert apt.known() is None  # nobody waits for apt
    for _ in range(3):
        assert apt.known() == {"all": 2, "security": 1}
    assert apt.asked == 1
    for number, path in enumerate(("dpkg/status", "apt/lists/mirror_dists_bookworm_Packages")):
        os.utime(apt.host.path(f"/var/lib/{path}"), (2000, 2000))
        assert apt.known() is None  # what was true before the upgrade is not told
        assert apt.known() == {"all": 2, "security": 1}
        assert apt.asked == 2 + number
    apt.host.path(upgrades.KEPT).write_text("[torn")
    assert apt.known() is None
    assert apt.known() == {"all": 2, "security": 1}


def test_an_apt_that_fails_is_not_asked_each_time_either(apt: Apt) -> None:
    apt.ended = Completed(None, "", "")  # killed at its deadline
    assert [apt.known() for _ in range(3)] == [None] * 3
    assert apt.asked == 1


def test_while_it_is_found_out_it_is_not_known(apt: Apt) -> None:
    apt.starts = False
    assert apt.known() is None and apt.known() is None
    assert apt.ordered == 2 and apt.asked == 0


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_certificates(folder)
    return folder


@pytest.fixture
def cluster(pki: Path) -> Iterator[FakeCluster]:
    made = FakeCluster(short_folder(), pki)
    yield made
    made.close()


def test_a_member_of_the_database_tells_its_role_and_lag(cluster: FakeCluster) -> None:
    told = tiers.database(cluster.host)
    assert told is not None and told["role"] == "leader" and told["leader"] == "db1"
    cluster.leader, cluster.lags["db1"] = "db2", 4096
    told = tiers.database(cluster.host)
    assert told is not None and told["leader"] == "db2" and told["role"] != "leader"
    assert (told["lag"], told["trouble"]) == (4096, None)


def test_a_database_that_is_silent_is_a_trouble_and_not_an_error(cluster: FakeCluster) -> None:
    cluster.close()
    told = tiers.database(cluster.host)
    assert told is not None and "Patroni does not answer" in str(told["trouble"])


class Metrics(BaseHTTPRequestHandler):
    text = (
        "# TYPE rabbitmq_queue_messages_ready gauge\n"
        "rabbitmq_queue_messages_ready 12\n"
        "rabbitmq_queue_messages_unacked 3.0\n"
        "rabbitmq_queue_messages_ready_bytes 999\n"
        "rabbitmq_queue_consumers 4\n"
    )

    each = (
        'rabbitmq_detailed_queue_messages_ready{vhost="/",queue="plays"} 3\n'
        'rabbitmq_detailed_queue_messages_unacked{vhost="/",queue="plays"} 2\n'
        'rabbitmq_detailed_queue_messages{vhost="/",queue="plays"} 5\n'
        'rabbitmq_detailed_queue_consumers{vhost="/",queue="plays"} 1.0\n'
        'rabbitmq_detailed_queue_messages{vhost="/",queue="a\\"}\\\\ 9"} 7\n'
        'rabbitmq_detailed_raft_term_total{vhost="/",queue="plays"} 1\n'
        'rabbitmq_detailed_raft_term_total{vhost="/",queue="elsewhere"} 4\n'
    )

    def do_GET(self) -> None:
        families = ("queue_coarse_metrics", "queue_consumer_count", "ra_metrics")
        every = "/metrics/detailed?" + "&".join(f"family={name}" for name in families)
        text = {"/metrics": self.text, every: self.each}.get(self.path)
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *words: object) -> None:
        pass


def test_the_depth_of_the_queues_comes_from_the_metrics(tmp_path: Path) -> None:
    assert tiers.broker(Host(tmp_path)) is None
    with pytest.raises(HostctlError, match="no RabbitMQ"):
        tiers.queues(Host(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    configuration = f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {server.server_port}\n"
    write(tmp_path, "etc/rabbitmq/rabbitmq.conf", "listeners.tcp = none\n" + configuration)
    assert tiers.broker(Host(tmp_path)) == {
        "ready": 12,
        "unacknowledged": 3,
        "consumers": 4,
        "trouble": None,
    }
    nothing = {"messages": 0, "unacknowledged": 0, "consumers": 0}
    plays = {"leads": True, "copy": True, "messages": 5, "unacknowledged": 2, "consumers": 1}
    odd = {"leads": True, "copy": False, **nothing, "messages": 7}
    assert tiers.queues(Host(tmp_path)) == [
        {"vhost": "/", "name": 'a"}\\ 9', **odd},
        {"vhost": "/", "name": "elsewhere", "leads": False, "copy": True, **nothing},
        {"vhost": "/", "name": "plays", **plays},
    ]
    server.shutdown()
    server.server_close()
    told = tiers.broker(Host(tmp_path))
    assert told is not None and "RabbitMQ does not answer" in str(told["trouble"])
    with pytest.raises(HostctlError, match="does not tell its metrics"):
        tiers.queues(Host(tmp_path))


def test_packages_that_may_start_nothing_are_told_of(proc: Lab) -> None:
    policy = proc.path("usr/sbin/policy-rc.d")
    policy.parent.mkdir(parents=True, exist_ok=True)
    for content, held in ((None, False), ("#!/bin/sh\n# mine\nexit 101\n", False), (CUT_OFF, True)):
        if content:
            policy.write_text(content)
        assert proc.ok("facts", wide=True)["vitals"]["held_back"] is held


CUT_OFF = "#!/bin/sh\nexit 101\n"
