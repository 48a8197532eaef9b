"""Where things are in a checkout of Backline. Functions, so that a test can move the root."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def root() -> Path:
    """The checkout in use: `$BACKLINE_ROOT`, or the one this package lies in."""
    named = os.environ.get("BACKLINE_ROOT")
    return Path(named).resolve() if named else CHECKOUT


def inventory() -> Path:
    """The folder of environments, one sub-folder each."""
    return root() / "inventory"


def dist() -> Path:
    """Where built releases lie."""
    return root() / "dist"


def cache() -> Path:
    """Things that can be made again; mode 0700, since some come from inventories."""
    folder = root() / ".cache"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def signing_key() -> Path:
    """The private key that signs releases when none is named."""
    return root() / ".lab" / "signing_key"


def records(env: str) -> Path:
    """What was done to an environment from here: plans, runs and their journals, the audit log."""
    return root() / ".backline" / env


def plans(env: str) -> Path:
    """Saved plans, named by their hash."""
    return records(env) / "plans"


def runs(env: str) -> Path:
    """A folder for each run."""
    return records(env) / "runs"


def audit(env: str) -> Path:
    """The beginnings and ends of all runs, as one chain."""
    return records(env) / "audit.jsonl"
