"""The music that the lab's media origin serves: made here, the same on every machine."""

from __future__ import annotations

import subprocess
import sys

from backline.errors import BacklineError
from backline.lab.machine import STATE, Say
from backline.lab.topology import ROOT

LIBRARY = STATE / "library"
MAKER = ROOT / "examples" / "jukebox" / "make_library.py"


def ensure(say: Say) -> None:
    """Makes the songs of examples/jukebox in .lab/library unless they are there."""
    if (LIBRARY / "catalogue.json").exists() or not MAKER.exists():
        return
    say("making the songs of the sample library")
    done = subprocess.run(
        [sys.executable, str(MAKER), str(LIBRARY)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BacklineError(
            f"{MAKER.name} could not make the songs", hint=done.stderr.strip()[-300:]
        )
