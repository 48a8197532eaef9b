"""What systemd and hostctl are told of a worker pool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.templates.test_templates import render, unit

POOL: dict[str, Any] = {
    "name": "plays",
    "process": "worker",
    "process_name": "worker-plays",
    "unit": "jukebox-worker-plays@.service",
}


def pool(**more: Any) -> dict[str, list[str]]:
    """The unit of a pool."""
    return unit("worker", "worker.service.j2", worker_app="jukebox", item={**POOL, **more})


def parameters(**more: Any) -> dict[str, str]:
    """What hostctl fills into the release's command."""
    text = render("worker", "process.json.j2", worker_app="jukebox", item={**POOL, **more})
    found: dict[str, str] = json.loads(text)["parameters"]
    return found


def test_children_share_the_memory_of_their_pool() -> None:
    assert parameters(memory_max="1G", concurrency=3)["max_memory_per_child"] == str(256 * 1024)
    assert parameters(max_memory_per_child=100)["max_memory_per_child"] == str(100 * 1024)


def test_libraries_are_held_to_their_threads() -> None:
    words = " ".join(pool(threads=2)["Environment"]).split()
    for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
        assert f"{library}_NUM_THREADS=2" in words


@pytest.mark.parametrize(("jit", "forbidden"), [(False, "yes"), (True, "no")])
def test_only_pools_that_make_code_may_run_what_they_write(jit: bool, forbidden: str) -> None:
    assert pool(jit=jit)["MemoryDenyWriteExecute"] == [forbidden]


def test_a_stopping_pool_may_finish_its_jobs() -> None:
    found = pool(stop_timeout=900, soft_shutdown=600)
    assert found["KillMode"] == ["mixed"] and found["TimeoutStopSec"] == ["900"]
    assert "BACKLINE_SOFT_SHUTDOWN=600" in found["Environment"]
