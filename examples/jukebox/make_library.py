#!/usr/bin/env python3
"""Makes the sample library: four short songs as WAV files, and catalogue.json about them.

    python make_library.py OUT_DIR

The same bytes come out on every machine: all of the sound is integer arithmetic, and the two
tables that start from floating point are rounded far from any tie. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import wave
from array import array
from dataclasses import dataclass
from functools import cache
from operator import add
from pathlib import Path

RATE = 22_050  # samples a second; 16 bits, one channel
SINE = [round(32_767 * math.sin(2 * math.pi * step / 1024)) for step in range(1024)]
#: Added to a phase of 32 bits per sample, by MIDI note: 69 is the A of 440 Hz.
STEP = [round(440 * 2 ** ((note - 69) / 12) / RATE * 2**32) for note in range(128)]

CHORDS = {
    "Am": (57, 60, 64), "C": (60, 64, 67), "D": (62, 66, 69), "Dm": (62, 65, 69),
    "Em": (59, 64, 67), "F": (57, 60, 65), "G": (59, 62, 67), "Bm": (59, 62, 66),
    "Bb": (58, 62, 65), "Gm": (58, 62, 67), "A": (57, 61, 64), "E": (56, 59, 64),
}  # fmt: skip


@dataclass(frozen=True)
class Song:
    """A song as notes: one chord a bar of four beats, and two melody notes a beat (0 rests)."""

    slug: str
    title: str
    artist: str
    album: str
    beat: int  # samples
    chords: str
    melody: str

    def bars(self) -> list[str]:
        """The names of the chords, a bar each."""
        return self.chords.split()


SONGS = [
    Song(
        "soundcheck-at-six", "Soundcheck at Six", "The Patchbays", "Load In",
        9_200, "Am F C G Am F C G Am F G Am",
        "69 0 72 76 0 74 72 0  69 0 72 77 0 76 72 0  76 0 79 76 0 74 72 0  74 0 71 74 0 72 71 0",
    ),
    Song(
        "house-lights-down", "House Lights Down", "Ada and the Faders", "Front of House",
        12_600, "Dm Bb F C Dm Bb C Dm",
        "74 0 0 77 0 76 74 0  74 0 70 0 72 0 74 0  77 0 81 0 79 77 0 0  76 0 72 0 74 76 0 0",
    ),
    Song(
        "monitor-mix", "Monitor Mix", "Ada and the Faders", "Front of House",
        8_400, "Em C G D Em C G D Em C D Em",
        "76 79 83 79 76 79 83 79  76 79 84 79 76 79 84 79  74 79 83 79 74 79 83 79  "
        "74 78 81 78 74 78 81 78",
    ),
    Song(
        "last-van-home", "Last Van Home", "Gaffer Tape Quartet", "Load Out",
        14_400, "G Em C D Em Am D G",
        "71 0 74 0 79 0 0 0  78 0 76 0 74 0 71 0  72 0 76 0 79 0 76 0  74 0 0 72 71 0 69 0",
    ),
]  # fmt: skip


@cache
def strike(note: int, length: int, loudness: int, overtone: int) -> list[int]:
    """The samples of one struck note: a sine and its octave, dying away.

    `length` is in samples, `loudness` and `overtone` in 1/256.
    """
    step, phase, attack = STEP[note], 0, 160
    samples = []
    for gone in range(length):
        left = length - gone
        envelope = left * left // length  # falls as a parabola, length…0
        if gone < attack:
            envelope = envelope * gone // attack
        tone = SINE[phase >> 22] + (SINE[(phase >> 21) & 1023] * overtone >> 8)
        samples.append((tone * envelope // length) * loudness >> 8)
        phase = (phase + step) & 0xFFFFFFFF
    return samples


def mix(sound: list[int], start: int, samples: list[int]) -> None:
    """Adds `samples` to `sound` from `start` on, as far as it goes."""
    end = min(start + len(samples), len(sound))
    sound[start:end] = map(add, sound[start:end], samples)


def compose(song: Song) -> array[int]:
    """The song's samples."""
    bars, melody = song.bars(), [int(note) for note in song.melody.split()]
    bar = 4 * song.beat
    sound = [0] * (len(bars) * bar + RATE)
    for number, name in enumerate(bars):
        start, chord = number * bar, CHORDS[name]
        for beat in (0, 2):
            mix(sound, start + beat * song.beat, strike(chord[0] - 24, 2 * song.beat, 72, 90))
        for place, note in enumerate(chord):
            mix(sound, start + place * 300, strike(note, bar, 34, 40))
        for eighth in range(8):
            note = melody[(number * 8 + eighth) % len(melody)]
            if note:
                at = start + eighth * song.beat // 2
                mix(sound, at, strike(note, song.beat * 3 // 2, 60, 70))
    return array("h", (max(-32_768, min(32_767, value)) for value in sound))


def write(song: Song, folder: Path) -> dict[str, object]:
    """Writes the song's file. Returns its line of the catalogue."""
    samples = compose(song)
    path = folder / f"{song.slug}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    data = path.read_bytes()
    path.chmod(0o644)
    return {
        "slug": song.slug,
        "title": song.title,
        "artist": song.artist,
        "album": song.album,
        "seconds": round(len(samples) / RATE),
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "mime": "audio/wav",
    }


def main() -> None:
    """Makes the folder, the songs, and last the catalogue."""
    parser = argparse.ArgumentParser(description="Make the jukebox's sample library.")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="folder to write to; made")
    out: Path = parser.parse_args().out
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The catalogue comes last: where it is, all songs are.
        catalogue = [write(song, out) for song in SONGS]
        text = json.dumps(catalogue, indent=2, ensure_ascii=False) + "\n"
        (out / "catalogue.json").write_text(text, encoding="utf-8")
    except OSError as error:
        sys.exit(f"make_library: cannot write to {out}: {error.strerror}")
    print(f"{len(catalogue)} songs in {out}")


if __name__ == "__main__":
    main()
