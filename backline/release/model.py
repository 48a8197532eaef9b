"""release.json: the signed description of a release, as it lies in dist/ and on every host."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{7}")
SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Archive(_Model):
    """Digests and sizes (bytes) of the tar and of what travels."""

    tar_sha256: str
    tar_size: int
    zst_sha256: str
    zst_size: int


class File(_Model):
    """One file of the release, its path relative to the release's folder."""

    sha256: str
    size: int
    mode: str = Field(pattern=r"^0[0-7]{3}$")


class ReleaseProcess(_Model):
    """One process of the manifest."""

    kind: Literal["http", "worker", "singleton"]
    hosts: str
    command: list[str]
    stop_timeout: int
    health: dict[str, Any] | None = None


class Release(_Model):
    """The whole of release.json. Unknown keys are kept out, so newer releases stay readable."""

    schema_version: Literal[1] = 1
    id: str = Field(pattern=rf"^{RELEASE_ID.pattern}$")
    app: str
    version: str
    commit: str | None
    dirty: bool
    built_at: str
    python: str
    architecture: str = "x86_64"
    requirements: str = "requirements.lock"
    archive: Archive
    files: dict[str, File]
    processes: dict[str, ReleaseProcess]
    migrations: dict[str, list[list[str]]]
    probe: dict[str, list[str]] = {"paths": ["/"]}
