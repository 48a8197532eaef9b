"""hostctl killed at every write: whoever comes next completes the work, and nothing is torn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import files, venv

from .fake_host import R1, R2, Lab, short_folder

KILLED = 77
WRITES = ("rename", "symlink_to", "unlink")


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
    os.fsync = counted(os.fsync)


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


def every_write(
    keys: dict[str, Path], prepare: Callable[[Lab], None], verb: str, **fields: Any
) -> int:
    """Kill `verb` at each of its writes on a fresh host; then a new run does it again."""
    for number in range(1, 100):
        root = short_folder()
        lab = Lab(root, keys)
        try:
            prepare(lab)
            died = killed_at(number, lambda lab=lab: lab.ok(verb, **fields))  # type: ignore[misc]
            if died:
                lab.clock.sleep(3601)
                lab.run, lab.token = "run-2", lab.ok("lease", action="show")["fence"] + 1
                lab.take()
                lab.ok(verb, **fields)
            check_whole(lab)
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
