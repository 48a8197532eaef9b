"""PostgreSQL's settings fit the host, from a container to a big machine."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

Load = Callable[[str], ModuleType]
PATH = "database/filter_plugins/database_tuning.py"


def megabytes(value: str) -> float:
    return float(value[:-2]) / (1024 if value.endswith("kB") else 1)


@pytest.mark.parametrize(
    ("memory_mb", "buffers", "cache"),
    [(512, "128MB", "384MB"), (16384, "4096MB", "12288MB"), (262144, "16384MB", "196608MB")],
)
def test_buffers_grow_with_the_host_up_to_a_cap(
    load: Load, memory_mb: int, buffers: str, cache: str
) -> None:
    settings = load(PATH).database_tuning(memory_mb, 4, 200)
    assert (settings["shared_buffers"], settings["effective_cache_size"]) == (buffers, cache)


@given(st.integers(256, 1_000_000), st.integers(1, 512), st.integers(1, 5000))
def test_no_host_gets_more_than_it_has(
    load: Load, memory_mb: int, processors: int, connections: int
) -> None:
    settings = load(PATH).database_tuning(memory_mb, processors, connections)
    assert megabytes(settings["shared_buffers"]) <= memory_mb / 2
    assert megabytes(settings["maintenance_work_mem"]) <= memory_mb / 4
    # One sort each in every connection: more than 1 MB only where there is room for all of them.
    work = megabytes(settings["work_mem"])
    assert work == 1 or work * connections <= memory_mb
    assert settings["max_parallel_workers_per_gather"] <= settings["max_parallel_workers"]


def test_what_cannot_work_is_refused_with_the_way_out(load: Load) -> None:
    with pytest.raises(ValueError, match="database_memory_mb"):
        load(PATH).database_tuning(128, 2, 100)
