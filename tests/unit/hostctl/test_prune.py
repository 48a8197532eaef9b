"""mark, prune, drain, facts, status."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backline.hostctl import files
from backline.hostctl.host import Host
from backline.hostctl.prune import choose
from backline.hostctl.rest import Rest

from .fake_host import PROCESSES, R1, R2, R3, Lab

MANY = [f"20261122T19{n:02d}00Z-aaaaaa{n % 10}" for n in range(10, 18)]


def test_mark_is_remembered_in_the_order_of_marking(lab: Lab) -> None:
    lab.plant(R1, R2)
    lab.take()
    for release in (R1, R2, R1):
        assert lab.ok("mark", release=release, state="good")["already"] is False
    assert lab.ok("mark", release=R1, state="good")["already"] is True
    assert lab.ok("status")["good"] == [R2, R1]
    lab.ok("mark", release=R2, state="bad")
    assert lab.ok("mark", release=R2, state="bad")["already"] is True
    states = {entry["id"]: entry["state"] for entry in lab.ok("status")["releases"]}
    assert states == {R1: "good", R2: "bad"}
    assert lab.ok("status")["good"] == [R1]
    assert lab.refused("mark", release=R3, state="good") == (1, "not_staged")


def test_prune_keeps_what_is_needed_whatever_its_age(lab: Lab) -> None:
    lab.plant(*MANY)
    lab.take(lifetime=3600)
    live, before, good, warm = MANY[3], MANY[0], MANY[1], MANY[2]
    for release in (before, live):
        lab.ok("start", release=release, process="web")
        lab.ok("switch", release=release, process="web")
    lab.ok("stop", release=before, process="web")
    lab.ok("start", release=warm, process="worker-plays")
    lab.ok("mark", release=good, state="good")
    lab.ok("mark", release=MANY[7], state="bad")
    answer = lab.ok("prune", keep=5)
    assert answer["protected"] == sorted([live, before, good, warm])
    assert answer["removed"] == [MANY[7], MANY[4], MANY[5]]
    assert answer["kept"] == [*MANY[:4], MANY[6]]
    assert sorted(path.name for path in lab.releases.iterdir()) == answer["kept"]
    assert lab.ok("prune", keep=1)["kept"] == MANY[:4]
    assert lab.ok("prune", keep=1)["removed"] == []
    assert set(MANY[:4]) == {entry["id"] for entry in lab.ok("status")["releases"]}


def test_a_bad_release_that_was_rolled_back_from_may_go(lab: Lab) -> None:
    lab.plant(R1, R2)
    lab.take()
    for release in (R1, R2):
        lab.ok("start", release=release, process="web")
        lab.ok("switch", release=release, process="web")
    lab.ok("rollback", process="web")
    lab.ok("mark", release=R2, state="bad")
    assert lab.ok("prune", keep=1)["removed"] == []  # it still runs
    lab.ok("stop", release=R2, process="web")
    assert lab.ok("prune", keep=1)["removed"] == [R2]
    assert lab.refused("rollback", process="web")[1] == "not_staged"


@given(
    st.lists(st.sampled_from(MANY), unique=True),
    st.sets(st.sampled_from(MANY)),
    st.sets(st.sampled_from(MANY)),
    st.integers(1, 10),
)
def test_choose_never_takes_what_is_needed(
    staged: list[str], bad: set[str], needed: set[str], keep: int
) -> None:
    known = {"releases": {r: {"state": "bad" if r in bad else "good"} for r in staged}}
    doomed = choose(staged, known, needed, keep)
    assert not set(doomed) & needed and set(doomed) <= set(staged)
    assert len(staged) - len(doomed) >= min(keep, len(staged))
    spared = [r for r in staged if r not in doomed and r not in needed]
    assert not any(r in bad for r in spared) or all(r in bad for r in doomed)


def test_prune_removes_uploads_that_are_done_or_forgotten(lab: Lab) -> None:
    lab.plant(R1)
    lab.take()
    incoming = lab.path("var/lib/backline/incoming")
    for name in (f"{R1}.tar.zst", f"{R2}.tar.zst", f"{R3}.tar.zst", "notes"):
        (incoming / name).touch()
        os.utime(incoming / name, (lab.clock.wall, lab.clock.wall))
    os.utime(incoming / f"{R2}.tar.zst", (1, 1))
    lab.ok("prune")
    assert sorted(path.name for path in incoming.iterdir()) == [f"{R3}.tar.zst", "notes"]


def test_drain_is_a_flag_with_a_lease(lab: Lab) -> None:
    flag = lab.path("run/backline/drain")
    lab.take()
    assert lab.ok("drain", action="show", app=..., run=..., token=...)["drained"] is False
    assert lab.ok("drain", action="on") == {"ok": True, "drained": True, "already": False}
    assert flag.exists() and lab.ok("drain", action="on")["already"] is True
    assert lab.ok("facts")["drained"] is True and lab.ok("status")["drained"] is True
    lab.ok("drain", action="off")
    assert not flag.exists() and lab.ok("drain", action="off")["already"] is True


def test_a_persistent_drain_outlives_a_reboot(lab: Lab) -> None:
    flag, kept = lab.path("run/backline/drain"), lab.path("etc/tmpfiles.d/backline.drain.conf")
    lab.take()
    lab.ok("drain", action="on")
    assert lab.ok("drain", action="on", persist=True)["already"] is False
    assert kept.read_text().splitlines()[-1] == "f /run/backline/drain 0644 root root"
    assert lab.ok("drain", action="on", persist=True)["already"] is True
    assert lab.ok("drain", action="on")["already"] is True and kept.exists()
    assert lab.ok("drain", action="show")["persist"] is True
    flag.unlink()  # a reboot, before systemd-tmpfiles ran
    assert lab.ok("drain", action="off")["already"] is False
    assert not kept.exists() and not flag.exists()
    assert lab.ok("drain", action="off", persist=True)["already"] is True


def test_facts_of_a_bare_host(lab: Lab) -> None:
    lab.plant(R1)
    answer = lab.ok("facts", app=..., run=..., token=...)
    assert answer["protocol"] == 2 and answer["time"] == lab.clock.wall
    assert answer["disk_free"] > 0 and answer["inodes_free"] > 0
    assert answer["apps"] == {
        "jukebox": {
            "current": None, "releases": [R1], "processes": ["beat", "web", "worker-plays"]
        }
    }  # fmt: skip


def test_status_tells_live_and_warm_apart(lab: Lab) -> None:
    lab.plant(R1, R2)
    lab.take(holder="ann")
    for release in (R1, R2):
        lab.ok("start", release=release, process="web")
        lab.ok("switch", release=release, process="web")
    answer = lab.ok("status")
    web = answer["processes"]["web"]
    assert (web["kind"], web["live"], web["previous"]) == ("http", R2, R1)
    assert web["instances"] == [
        {
            "release": release,
            "active": "active",
            "since": 1800000000.0,
            "pid": pid,
            "restarts": 0,
            "unit": f"jukebox-web@{release}.service",
        }
        for release, pid in ((R1, 101), (R2, 102))
    ]
    assert answer["current"] == R2 and answer["lease"]["holder"] == "ann"
    assert answer["releases"][0] == {
        "id": R1, "version": "1.1", "processes": sorted(PROCESSES), "state": "staged",
        "migrated": [], "tar": False,
    }  # fmt: skip


def test_trash_is_removed_with_rests_and_links_are_not_followed(tmp_path: Path) -> None:
    """What serves on the host goes first; a link to elsewhere leads nobody there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    trash = tmp_path / "trash"
    for number in range(5):
        (trash / f"{number}" / "deep").mkdir(parents=True)
        (trash / f"{number}" / "file").write_text("")
        (trash / f"{number}" / "link").symlink_to(outside)
    now, rests = [0.0], []

    def clock() -> float:
        now[0] += 1.0  # every look at the clock is a second of work
        return now[0]

    files.remove_gently(trash, Rest(Host(tmp_path, boottime=clock, sleep=rests.append)))
    assert not trash.exists() and (outside / "kept").exists()
    assert rests[0] == 3.0 and sum(rests) == 15.0
