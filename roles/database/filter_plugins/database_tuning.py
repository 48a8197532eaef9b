"""PostgreSQL's memory and WAL settings, computed from what the host has.

The one place where they are decided. Rules of thumb are those of PostgreSQL's own
documentation ("Resource Consumption", "WAL Configuration"), with caps where more stops helping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SMALLEST_MEMORY_MB = 256


def database_tuning(memory_mb: int, processors: int, connections: int) -> dict[str, str | int]:
    """Return PostgreSQL parameters that fit a host.

    memory_mb: memory PostgreSQL may count on, in MiB (not always all the host has).
    processors: logical processors of the host.
    connections: max_connections.
    Raises ValueError when there is too little memory to run a server at all.

    >>> database_tuning(16384, 8, 200)["shared_buffers"]
    '4096MB'
    """
    memory_mb, processors, connections = int(memory_mb), int(processors), int(connections)
    if memory_mb < SMALLEST_MEMORY_MB:
        raise ValueError(
            f"{memory_mb} MiB is too little for PostgreSQL: "
            f"set database_memory_mb to at least {SMALLEST_MEMORY_MB}"
        )
    if processors < 1 or connections < 1:
        raise ValueError("processors and connections must be at least 1")
    shared_buffers = min(max(memory_mb // 4, 64), 16384)
    # Half of what is left, shared by connections that may each run a few sorts or hashes at once.
    work_mem_kb = (memory_mb - shared_buffers) * 1024 // 2 // connections // 3
    workers = max(2, min(processors, 16))
    return {
        "shared_buffers": f"{shared_buffers}MB",
        "effective_cache_size": f"{memory_mb * 3 // 4}MB",
        "work_mem": f"{min(max(work_mem_kb, 1024), 65536)}kB",
        "maintenance_work_mem": f"{min(max(memory_mb // 16, 16), 2048)}MB",
        "autovacuum_work_mem": f"{min(max(memory_mb // 32, 16), 512)}MB",
        # Checkpoints by time, not by volume; small hosts must not fill their disk with WAL.
        "max_wal_size": f"{min(max(memory_mb // 4, 256), 16384)}MB",
        "min_wal_size": f"{min(max(memory_mb // 16, 80), 2048)}MB",
        "max_parallel_workers": workers,
        "max_parallel_workers_per_gather": max(1, min(workers // 2, 4)),
        "max_parallel_maintenance_workers": max(1, min(workers // 2, 4)),
    }


class FilterModule:
    """What Ansible loads: memory_mb | database_tuning(processors, connections)."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {"database_tuning": database_tuning}
