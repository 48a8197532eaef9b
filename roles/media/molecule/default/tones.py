"""Songs for the tests, the same at every run: `tones.py FOLDER` writes them."""

from __future__ import annotations

import math
import os
import struct
import sys
import wave
from pathlib import Path

RATE = 22050
CHANGED = 1_767_225_600  # 2026-01-01T00:00:00Z, epoch seconds


def tone(path: Path, pitch: int, seconds: int) -> None:
    """A sine of one pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (int(9000 * math.sin(n * pitch * math.tau / RATE)) for n in range(RATE * seconds))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


def main(folder: Path) -> None:
    """Two songs, one that is none, and a list."""
    tone(folder / "first.wav", 440, 14)
    tone(folder / "album one" / "second ö.wav", 660, 3)
    (folder / "broken.mp3").write_bytes(b"this is no music" * 99)
    (folder / "catalogue.json").write_text("[]")
    for path in folder.rglob("*.*"):
        os.utime(path, (CHANGED, CHANGED))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
