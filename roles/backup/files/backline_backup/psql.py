"""Asks a PostgreSQL server through psql: the host has no driver, and needs none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import supervise
from .supervise import Limits

# What a row looks like as text must not depend on who asks.
SETTINGS = """set datestyle = 'ISO, YMD'; set timezone = 'UTC'; set intervalstyle = 'iso_8601';
set extra_float_digits = 1; set bytea_output = 'hex'; set xmlbinary = 'base64'; set lc_monetary = 'C';
set search_path = pg_catalog; set lock_timeout = '10s';
"""


@dataclass(frozen=True)
class Psql:
    """A server, and as whom to ask it: `environment` is libpq's."""

    bin_dir: Path
    environment: Mapping[str, str]
    limits: Limits

    def run(self, sql: str, database: str) -> list[str]:
        """The lines that the statements give, each row one. Raises CommandError."""
        argv: list[str | Path] = [
            self.bin_dir / "psql",
            "-XAtq",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
        ]
        environment = {**self.environment, "PGDATABASE": database}
        said = supervise.run(argv, self.limits, stdin=SETTINGS + sql, environment=environment)
        return said.splitlines()

    def json(self, sql: str, database: str) -> list[Any]:
        """The same for statements whose rows are JSON."""
        return [json.loads(line) for line in self.run(sql, database)]
