"""Audio for the tests: the same bytes and times at every run. `python audio.py FOLDER` writes it."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

CHANGED = 1_767_225_600  # 2026-01-01T00:00:00Z, epoch seconds


def audio(seed: int, size: int) -> bytes:
    """`size` bytes that look like nothing else."""
    return random.Random(seed).randbytes(size)


SONG = audio(1, 3_500_007)  # three whole slices of a mebibyte and a part
FILES = {
    "song.wav": SONG,
    "album one/ünder.mp3": audio(2, 4_000),
    "never-asked-before.wav": audio(3, 2_500_000),
    "premiere.wav": audio(4, 3_000_000),
    "replaced.wav": audio(5, 3_000_000),
    "hour.wav": audio(6, 24_000_000),  # more than the kernel takes from nginx at once
    "catalogue.json": b"[]",
    ".hidden": b"secret",
}


def main(folder: Path) -> None:
    """Writes the files."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (CHANGED, CHANGED))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
