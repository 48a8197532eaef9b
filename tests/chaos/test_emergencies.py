"""The emergencies of docs/runbooks, for real, each mended by its page's own commands as they stand there.

Each test follows the parts of a page that its decorator names, and fails when a command of them does not
end as the page says. What then counts is not what they say: listeners hear music, and plays are counted.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from backline.lab.machine import podman
from tests.chaos.ending import answers, live_somewhere, logs_in, release_of, serves, tidy
from tests.chaos.test_services import health
from tests.data import faults
from tests.data.cluster import inside
from tests.data.conftest import podman_as_the_lab_has_it
from tests.data.remote import wait_until
from tests.fleet.test_night import SPOILED, web_dies
from tests.live import Fleet, run
from tests.reading import Page, follows
from tests.releases import build_kind
from tests.rollout.runs import QUICK, Fab, live

__all__ = ["podman_as_the_lab_has_it", "tidy"]

SIZE = "full"
LATE_S = 120.0
MENDING = "We are mending it."


# A bad release.


@follows("bad-release", "First command", "3", "4", "6", "7", "It is over when", "Write down")
def test_a_release_that_turned_bad_goes(fleet: Fleet, page: Page) -> None:
    """It is well when it is rolled out, and breaks on all hosts later; one of them is down by then."""
    good, streams, listener = release_of(fleet), fleet.hosts("streaming"), fleet.listener()
    bad, mended = build_kind("spoils"), build_kind("line")
    run("fab", "deploy", "--env", fleet.env, "--release", bad, *QUICK)
    try:
        for host in streams:
            fleet.on(host, f"sudo touch {SPOILED}")
        wait_until("pages fail", LATE_S, lambda: answers(listener) >= 500, every=1)
        said = page.next("First command").out
        assert said.count("web is ill") == len(streams) and bad in said and good not in said
        releases, runs = page.rest("First command")
        assert good in releases.out and bad in runs.out

        page.next("7")
        page.next("7")
        assert MENDING in listener.get("/")[1].decode()
        with faults.killed(fleet, streams[-1]):
            assert good in page.next("3").said
            ended = page.next("3", ends=(3,)).err
            assert good in ended and streams[-1] in ended
            page.rest("7")
            wait_until("pages are back", LATE_S, lambda: answers(listener) == 200, every=1)
        logs_in(fleet, streams[-1])
        page.names["ID"] = good
        page.rest("6")
        assert release_of(fleet) == good
        page.names["ID"] = mended
        page.rest("4")
        assert release_of(fleet) == good, "it was a rehearsal"
        assert "web is ill" not in page.rest("It is over when")[0].out
        page.rest("Write down")
    finally:
        logs_in(fleet, *streams)
        for host in streams:
            fleet.on(host, f"sudo rm -f {SPOILED}", expect=None)
    serves(fleet)


@follows("bad-release", "1", "5")
def test_a_run_is_taken_back_by_somebody_else(fleet: Fleet, page: Page) -> None:
    """One that somebody works on, and one whose controller is dead: by the same command."""
    before, release = live(fleet), build_kind("line")
    crowd = fleet.crowd(fleet.listener())
    try:
        for alive in (True, False):
            work = Fab(fleet, "deploy", "--release", release, "--soak", "240")
            try:
                wait_until("it is live somewhere", 240, lambda: live_somewhere(fleet, release), 1)
                if alive:
                    assert (
                        "leased to" in run("fab", "status", "--env", fleet.env, COLUMNS="400").out
                    )
                    run("fab", "rollback", "--env", fleet.env, expect=5)
                    assert "HOLDER" in page.next("5").out
                    page.next("1")
                    work.end(expect=4)
                else:
                    work.signal(signal.SIGKILL)
                    work.process.wait()
                    page.again()
            finally:
                if work.process.poll() is None:
                    work.signal(signal.SIGKILL)
            assert live(fleet) == before
    finally:
        tally = crowd.stop()
    assert tally.requests > 100 and not tally.failures, tally.failures


@follows("bad-release", "Decide")
def test_one_host_is_ill(fleet: Fleet, page: Page) -> None:
    host = page.names["HOST"] = fleet.hosts("streaming")[0]
    release = release_of(fleet)
    assert host == "stream1", "test_night's trouble is this host's"
    web_dies(fleet)
    try:
        database, broker, restarted = (page.next("Decide") for _ in range(3))
        assert "leads" in database.out and "COPIES UP" in broker.out and restarted.code == 0
        assert health(fleet, host) == "200" and release_of(fleet) == release
        page.next("Decide")
        assert run("fab", "status", "--env", fleet.env, "--on", host, "--json").last["drained"]
    finally:
        run("fab", "undrain", host, "--env", fleet.env)
    serves(fleet)


# A full disk.

FULL = "/var/lib/rabbitmq"
"""A place that `fab status` looks at, and that no worker host uses: nobody else is hurt."""
HOARDER = """[Service]
ExecStart=/bin/bash -c 'if mkdir /run/hoarded; then exec 3>{full}/log; rm {full}/log; \\
  head -c 58M /dev/zero >&3; fi; exec sleep infinity'
"""
SCRIBE = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash -c 'head -c 20M /dev/zero >{full}/scribe'
"""
CACHED = "/var/cache/apt/archives/old.deb"


@pytest.fixture
def full(fleet: Fleet) -> Iterator[str]:
    """A worker host with a file system of 64 MB: one unit holds a deleted file there, another one failed."""
    host = fleet.hosts("worker")[-1]
    units = {"hoarder": HOARDER, "scribe": SCRIBE}
    mount = (
        f"mkdir -p {FULL}; mount -t tmpfs -o size=64m tmpfs {FULL}; head -c 9M /dev/zero >{CACHED}"
    )
    try:
        inside(fleet, host, "sh", "-ec", mount)
        for name, text in units.items():
            place = f"cat >/run/systemd/system/{name}.service"
            words = ("exec", "-i", fleet.container(host), "sh", "-ec", place)
            podman(*words, data=text.replace("{full}", FULL).encode())
        begin = (
            "systemctl daemon-reload; systemctl start hoarder; sleep 2; ! systemctl start scribe"
        )
        inside(fleet, host, "sh", "-ec", begin)
        yield host
    finally:
        clean = (
            "systemctl stop hoarder scribe; systemctl reset-failed hoarder scribe; "
            "rm -f /run/systemd/system/hoarder.service /run/systemd/system/scribe.service; "
            f"rm -rf /run/hoarded {CACHED}; umount -l {FULL}; rmdir {FULL}; systemctl daemon-reload"
        )
        inside(fleet, host, "sh", "-c", f"{clean}; true")
        run("fab", "undrain", host, "--env", fleet.env, expect=None)


@follows("disk-full", "First command", "1", "2", "3", "4", "It is over when")
def test_a_disk_is_full(fleet: Fleet, page: Page, full: str) -> None:
    page.names |= {"HOST": full, "UNIT": "hoarder"}
    said = page.next("First command").out
    assert re.search(rf"{FULL} (9\d|100)% full", said) and "scribe.service failed" in said
    df, du = page.rest("First command")
    assert re.search(rf"(9\d|100)% {FULL}$", df.out, re.M) and "/var" in du.out
    assert page.next("1").out.count("/var/log") == 2
    page.next("2")
    inside(fleet, full, "test", "!", "-e", CACHED)

    held = page.next("3").out
    (number,) = re.findall(rf"\b{58 * 1024**2} /proc/(\d+)/fd/3\b", held)
    assert "hoarder.service" in inside(
        fleet, full, "sh", "-c", f"systemctl status {number} || true"
    )
    page.next("3")
    assert re.search(rf" \d\d?% {FULL}$", inside(fleet, full, "df", "-h", FULL).strip(), re.M)
    page.names["UNIT"] = "scribe"
    page.next("4")
    page.next("4")
    assert "scribe.service" in page.next("4").out
    page.rest("4")
    # Now that nothing has failed any more, the way for units that serve.
    page.names["UNIT"] = "hoarder"
    page.rest("3")

    assert FULL not in page.next("It is over when").out
    page.rest("It is over when")
    assert inside(fleet, full, "systemctl", "show", "-p", "ActiveState", "scribe").strip() == (
        "ActiveState=active"
    )
    serves(fleet)
