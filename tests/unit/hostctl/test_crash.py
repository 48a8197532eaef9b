"""hostctl killed at every write: whoever comes next completes the work, and nothing is torn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import files, haproxy, venv
from backline.release import signing

from .fake_haproxy import FakeHaproxy
from .fake_host import R1, R2, FakeSystemd, Lab, short_folder

KILLED = 77
WRITES = ("rename", "symlink_to", "unlink")
ORDERS = ("_start", "_stop", "_schedule")
PLAN = {"release": R2, "batches": [["stream1"]]}


def die_at(number: int) -> None:
    """In this process, exit without any clean-up at the `number`-th write."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os._exit(KILLED)
            return real(*arguments, **options)

        return write

    for name in WRITES:
        setattr(Path, name, counted(getattr(Path, name)))
    for name in ORDERS:
        setattr(FakeSystemd, name, counted(getattr(FakeSystemd, name)))
    os.fsync = counted(os.fsync)
    haproxy.put = counted(haproxy.put)


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies at its `number`-th write. False when it came through."""
    child = os.fork()
    if child == 0:
        try:
            die_at(number)
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED), f"write {number}: the action failed"
    return status == KILLED


def take_over(lab: Lab) -> None:
    """Another run comes when the lease has run out."""
    lab.clock.sleep(3601)
    lab.run, lab.token = "run-2", lab.ok("lease", action="show")["fence"] + 1
    lab.take()


def resume(lab: Lab) -> None:
    """The same run comes again, from a new controller."""
    lab.clock.sleep(3601)
    lab.token = lab.ok("lease", action="show")["fence"] + 1
    lab.take(plan=PLAN)


def every_write(
    keys: dict[str, Path],
    prepare: Callable[[Lab], None],
    verb: str,
    come_back: Callable[[Lab], None] = take_over,
    check: Callable[[Lab], None] = lambda lab: None,
    **fields: Any,
) -> int:
    """Kill `verb` at each of its writes on a fresh host; then somebody comes back and does it again.

    `check` looks at the host afterwards.
    """
    for number in range(1, 100):
        root = short_folder()
        lab = Lab(root, keys)
        try:
            prepare(lab)
            died = killed_at(number, lambda lab=lab: lab.ok(verb, **fields))  # type: ignore[misc]
            lab.systemd.recall()
            if died:
                come_back(lab)
                lab.ok(verb, **fields)
            check_whole(lab)
            check(lab)
        finally:
            lab.systemd.close()
            shutil.rmtree(root)
        if not died:
            return number - 1
    raise AssertionError("no end of writes")


def check_whole(lab: Lab) -> None:
    assert lab.leftovers() == []
    answer = lab.ok("journal")
    assert answer["intact"] is True, answer["problem"]
    assert lab.ok("status")["fence"] == lab.token


def two_releases(lab: Lab) -> None:
    lab.plant(R1, R2)
    lab.take()
    for release in (R1, R2):
        lab.ok("start", release=release, process="web")
    lab.ok("switch", release=R1, process="web")


def test_take(keys: dict[str, Path]) -> None:
    assert every_write(keys, lambda lab: None, "lease", action="take") >= 6


def test_switch(keys: dict[str, Path]) -> None:
    assert every_write(keys, two_releases, "switch", release=R2, process="web") >= 12


def test_mark(keys: dict[str, Path]) -> None:
    assert every_write(keys, two_releases, "mark", release=R2, state="good") >= 4


def test_stage(keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv, "build", lambda *_: None)
    monkeypatch.setattr(files, "sync_tree", lambda *_: None)

    def prepare(lab: Lab) -> None:
        lab.upload()
        lab.take()

    assert every_write(keys, prepare, "stage", release=R1) >= 10


def test_prune(keys: dict[str, Path]) -> None:
    def prepare(lab: Lab) -> None:
        two_releases(lab)
        lab.ok("stop", release=R2, process="web")

    assert every_write(keys, prepare, "prune", keep=1) >= 6


def planned(lab: Lab) -> None:
    lab.plant(R1, R2)
    lab.take(plan=PLAN)


def stored(lab: Lab) -> Any:
    return lab.ok("status")["run"]


def told(lab: Lab, verb: str) -> list[object]:
    return [entry["event"] for entry in lab.journal() if entry["verb"] == verb]


def test_take_with_a_plan(keys: dict[str, Path]) -> None:
    def come_back(lab: Lab) -> None:
        if lab.ok("lease", action="show")["lease"]:
            assert stored(lab)["plan"] == PLAN, "a lease without the plan that it was taken for"
        lab.clock.sleep(3601)
        lab.token = lab.ok("lease", action="show")["fence"] + 1

    def check(lab: Lab) -> None:
        assert (stored(lab)["plan"], stored(lab)["token"]) == (PLAN, lab.token)

    def prepare(lab: Lab) -> None:
        lab.plant(R1)

    count = every_write(keys, prepare, "lease", come_back, check, action="take", plan=PLAN)
    assert count >= 9


def test_release_with_an_end(keys: dict[str, Path]) -> None:
    def check(lab: Lab) -> None:
        assert stored(lab)["ended"] == "new"
        assert lab.ok("lease", action="show")["lease"] is None
        assert 1 <= len([e for e in lab.journal() if e.get("ended") == "new"]) <= 2

    fields = {"action": "release", "ended": "new"}
    assert every_write(keys, planned, "lease", lambda lab: None, check, **fields) >= 5


def test_note(keys: dict[str, Path]) -> None:
    def check(lab: Lab) -> None:
        assert stored(lab)["notes"] == [{"batch": 1}]
        assert told(lab, "note") == ["note"]

    assert every_write(keys, planned, "note", resume, check, note={"batch": 1}) >= 4


def test_want(keys: dict[str, Path]) -> None:
    def check(lab: Lab) -> None:
        assert stored(lab)["wanted"]["want"] == "abort"

    assert every_write(keys, planned, "want", lambda lab: None, check, want="abort") >= 4


def test_quarantine(keys: dict[str, Path]) -> None:
    hosts = {"stream1": {"why": "failed"}}

    def check(lab: Lab) -> None:
        assert lab.ok("status")["quarantine"] == hosts

    count = every_write(keys, planned, "quarantine", resume, check, action="add", hosts=hosts)
    assert count >= 4


def test_contracted(keys: dict[str, Path]) -> None:
    def check(lab: Lab) -> None:
        assert lab.ok("status")["contracted"] == [R2]

    fields = {"release": R2, "state": "contracted"}
    assert every_write(keys, planned, "mark", resume, check, **fields) >= 4


def test_drain_that_persists(keys: dict[str, Path]) -> None:
    def check(lab: Lab) -> None:
        assert lab.ok("drain", action="show") == {"ok": True, "drained": True, "persist": True}

    count = every_write(keys, planned, "drain", resume, check, action="on", persist=True)
    assert count >= 7


@pytest.mark.parametrize("polls", [0, 5])
def test_start_is_written_down_once_whoever_finishes_it(keys: dict[str, Path], polls: int) -> None:
    def prepare(lab: Lab) -> None:
        planned(lab)
        lab.systemd.starts_after = polls

    def check(lab: Lab) -> None:
        assert lab.systemd.running() == {f"jukebox-web@{R2}.service"}
        assert told(lab, "start").count("begin") == 1
        assert told(lab, "start").count("done") <= 1

    fields = {"release": R2, "process": "web"}
    assert every_write(keys, prepare, "start", resume, check, **fields) >= 3


def test_stop_is_written_down_once_whoever_finishes_it(keys: dict[str, Path]) -> None:
    def prepare(lab: Lab) -> None:
        planned(lab)
        lab.ok("start", release=R2, process="worker-plays")

    def check(lab: Lab) -> None:
        assert lab.systemd.running() == set()
        assert told(lab, "stop").count("begin") == 1
        assert told(lab, "stop").count("done") <= 1

    fields = {"release": R2, "process": "worker-plays"}
    assert every_write(keys, prepare, "stop", resume, check, **fields) >= 3


def test_a_later_stop(keys: dict[str, Path]) -> None:
    def prepare(lab: Lab) -> None:
        planned(lab)
        lab.ok("start", release=R2, process="web")

    def check(lab: Lab) -> None:
        assert list(lab.systemd.timers) == [f"backline-retire-jukebox-web-{R2}"]
        assert lab.systemd.running() == {f"jukebox-web@{R2}.service"}

    fields = {"release": R2, "process": "web", "after": 60}
    assert every_write(keys, prepare, "stop", resume, check, **fields) >= 2


def test_stage_from_a_patch(keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv, "build", lambda *_: None)
    monkeypatch.setattr(files, "sync_tree", lambda *_: None)

    def prepare(lab: Lab) -> None:
        lab.upload(R1)
        lab.take(plan=PLAN)
        lab.ok("stage", release=R1)
        lab.upload_patch(R2, R1)

    def check(lab: Lab) -> None:
        assert [entry["tar"] for entry in lab.ok("status")["releases"]] == [True, True]
        assert list(lab.host.incoming.iterdir()) == []

    assert every_write(keys, prepare, "stage", resume, check, release=R2, base=R1) >= 10


def test_update(keys: dict[str, Path]) -> None:
    old, new = (f"print('hostctl 0.{n}.0 (protocol 2)')".encode() for n in (2, 3))

    def upload(lab: Lab) -> None:
        (lab.host.incoming / "hostctl").write_bytes(new)
        signing.sign_hostctl(lab.host.incoming / "hostctl", keys["release"])

    def prepare(lab: Lab) -> None:
        planned(lab)
        lab.path("usr/local/bin").mkdir(parents=True)
        lab.path("usr/local/bin/hostctl").write_bytes(old)
        upload(lab)

    def come_back(lab: Lab) -> None:
        assert lab.path("usr/local/bin/hostctl").read_bytes() in (old, new)
        upload(lab)

    def check(lab: Lab) -> None:
        assert lab.path("usr/local/bin/hostctl").read_bytes() == new
        assert list(lab.host.incoming.iterdir()) == []
        assert not lab.path("var/lib/backline/.update").exists()

    assert every_write(keys, prepare, "update", come_back, check) >= 5


@pytest.mark.parametrize(("before", "action"), [("in", "out"), ("out", "in")])
def test_balance(keys: dict[str, Path], before: str, action: str) -> None:
    """HAProxy is restarted after each crash: the file and the running one never tell two stories."""
    fakes: list[FakeHaproxy] = []
    wanted = {"a/stream1", "b/stream1"} if action == "out" else set()

    def prepare(lab: Lab) -> None:
        planned(lab)
        fakes.append(FakeHaproxy(lab, {"a": ["stream1", "stream2"], "b": ["stream1"]}))
        lab.ok("balance", action=before, server="stream1")

    def check(lab: Lab) -> None:
        assert fakes[-1].out() == wanted
        fakes[-1].start()
        assert fakes[-1].out() == wanted
        assert lab.ok("balance", action=action, server="stream1")["already"] is True

    fields = {"action": action, "server": "stream1"}
    assert every_write(keys, prepare, "balance", lambda lab: None, check, **fields) >= 5
