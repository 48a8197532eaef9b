"""Mistakes in the inventory's users, databases and grants are told before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
FINE: dict[str, Any] = {
    "users": [{"name": "jukebox"}, {"name": "readers"}],
    "databases": [{"name": "jukebox", "owner": "jukebox"}],
    "grants": [{"database": "jukebox", "roles": ["readers", "PUBLIC"]}],
    "pool_size": 40,
    "connections": 200,
    "members": 1,
    "strict": False,
    "archive_mode": "on",
    "archive_command": "",
}


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (
            {"users": [*FINE["users"], {"name": "replicator"}]},
            "replicator is an account of the system",
        ),
        (
            {"users": [*FINE["users"], {"name": "backline_reader"}]},
            "backline_reader is an account of the system",
        ),
        ({"users": [*FINE["users"], {"name": "all roles"}]}, "'all roles' is no plain name"),
        ({"users": [*FINE["users"], {"name": "jukebox"}]}, "names jukebox twice"),
        ({"databases": [{"name": "films", "owner": "jukebox"}]}, "does not name jukebox"),
        ({"databases": [{"name": "jukebox", "owner": "nobody"}]}, "belongs to nobody"),
        (
            {"databases": [*FINE["databases"], {"name": "pgbouncer", "owner": "jukebox"}]},
            "cannot be",
        ),
        ({"grants": [{"database": "jukebox", "roles": ["ghosts"]}]}, "does not name ghosts"),
        (
            {"grants": [{"database": "jukebox", "roles": ["readers"], "type": "default_privs"}]},
            "need an owner",
        ),
        ({"pool_size": 181}, "181 connections and database_max_connections leaves 180"),
        ({"databases": [{**FINE["databases"][0], "pool_size": 200}]}, "200 connections"),
        ({"strict": True}, "needs three members"),
        ({"archive_command": "cp %p /x", "archive_mode": "off"}, "nothing would be archived"),
    ],
)
def test_each_mistake_is_told(load: Load, change: dict[str, Any], mistake: str) -> None:
    mistakes = load("database/filter_plugins/database_content.py").database_mistakes
    assert mistakes(FINE) == []
    found = mistakes({**FINE, **change})
    assert len(found) == 1 and mistake in found[0]
