"""The end of the fleet that the tests before this one have used: this file is the last by its name."""

from __future__ import annotations

import os

import pytest

from backline.lab.machine import podman
from backline.tasks.steps import ROOT
from tests.fleet.conftest import ENV
from tests.live import Fleet, run


def test_down_leaves_nothing_behind(fleet: Fleet) -> None:
    names = podman("ps", "-a", "--format", "{{.Names}}").split()
    assert any(name.startswith(f"backline-{ENV}-") for name in names)
    if "BACKLINE_KEEP_LAB" in os.environ:
        pytest.skip("the fleet is kept")
    run("inv", "lab.down", "--env", ENV)
    names = podman("ps", "-a", "--format", "{{.Names}}").split()
    assert not [name for name in names if name.startswith(f"backline-{ENV}-")]
    assert not (ROOT / "inventory" / ENV).exists() and not fleet.folder.exists()
