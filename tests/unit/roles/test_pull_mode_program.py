"""What the program of pull_mode makes of Ansible's output, and what it tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

COUNTS = {"changed": 2, "unreachable": 0, "failed": 1}
LINE = "stream1                    : ok=37   changed=2    unreachable=0    failed=1    skipped=6    rescued=0"


def test_the_recap_is_read(load: Callable[[str], ModuleType]) -> None:
    pull = load("pull_mode/files/pull.py")
    assert pull.recap(LINE) == COUNTS
    assert pull.recap("TASK [nginx : Configure | Write nginx.conf] ***") is None


def test_a_failed_run_keeps_the_time_of_the_last_good_one(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    pull = load("pull_mode/files/pull.py")
    path = tmp_path / "backline_pull.prom"
    nothing = dict.fromkeys(COUNTS, 0)
    pull.write(path, time.time(), 0, nothing, "abc")
    good = pull.SUCCESS.search(path.read_text())[1]
    pull.write(path, time.time(), 2, COUNTS, "def")
    text = path.read_text()
    assert f"backline_pull_last_success_timestamp_seconds {good}\n" in text
    for line in (
        "success 0",
        "changed_tasks 2",
        "failed_tasks 1",
        'revision_info{revision="def"} 1',
    ):
        assert f"\nbackline_pull_{line}\n" in text


def test_a_host_that_never_succeeded_says_so(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    pull = load("pull_mode/files/pull.py")
    path = tmp_path / "backline_pull.prom"
    pull.write(path, time.time(), 76, dict.fromkeys(COUNTS, 0), "")
    assert "backline_pull_last_success_timestamp_seconds 0\n" in path.read_text()


def test_the_same_collections_make_the_same_archive(
    load: Callable[[str], ModuleType],
) -> None:
    packer = load("pull_mode/files/pack_collections.py")
    assert packer.pack(["ansible.posix"]) == packer.pack(["ansible.posix"])
