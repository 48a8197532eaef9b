"""A host in a folder: real ssh-keygen, zstd, tar and venv; only systemd is played by a fake."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .fake_host import Lab, make_key, short_folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two signing keys: `release` is allowed on the hosts, `stranger` is not."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder / name) for name in ("release", "stranger")}


@pytest.fixture
def lab(keys: dict[str, Path]) -> Iterator[Lab]:
    """A fresh host with the app jukebox, in a folder short enough for socket paths."""
    root = short_folder()
    made = Lab(root, keys)
    yield made
    made.systemd.close()
    shutil.rmtree(root)
