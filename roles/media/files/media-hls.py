"""Packages audio for HLS: `media-hls.py SOURCE TARGET BITRATES SECONDS`, standard library only.

Each track of SOURCE gets a folder of the same name in TARGET: `index.m3u8`, which names one playlist
per bitrate, and a folder named after what went in (the track's bytes and the settings) with these
playlists and their fMP4 segments. A folder appears whole, by a rename; the index, replaced by a
rename, changes over to it; the one before stays for KEEP seconds, for players in the middle of it.

Only new and changed tracks cost time. A track that ffmpeg refuses is reported and left out, or stays
as it was; it is tried again when it changes. TARGET/.state.json remembers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SUFFIXES = {".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
KEEP = 24 * 3600  # seconds that a former version stays
LIMIT = 1800  # seconds that ffmpeg may take for one track
State = dict[str, Any]


def tracks(source: Path) -> dict[str, Path]:
    """The audio files below a folder, by their path in it, without hidden ones."""
    found = {}
    for place, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and path.is_file():
                found[path.relative_to(source).as_posix()] = path
    return dict(sorted(found.items()))


def digest(path: Path, settings: str) -> str:
    """A name for a version: of the bytes and of what is made of them."""
    seen = hashlib.sha256(settings.encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            seen.update(block)
    return seen.hexdigest()[:16]


def command(track: Path, folder: Path, bitrates: list[int], seconds: int) -> list[str]:
    """ffmpeg's words: decoded once, a playlist for each bitrate."""
    argv = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-xerror"]
    argv += ["-protocol_whitelist", "file", "-i", f"file:{track}"]
    for bitrate in bitrates:
        argv += ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "aac", "-ac", "2"]
        argv += ["-b:a", f"{bitrate}k", "-f", "hls", "-hls_time", str(seconds)]
        argv += ["-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"]
        argv += ["-hls_fmp4_init_filename", f"{bitrate}k.mp4"]
        argv += ["-hls_segment_filename", str(folder / f"{bitrate}k-%05d.m4s")]
        argv += [str(folder / f"{bitrate}k.m3u8")]
    return argv


def index(version: str, bitrates: list[int]) -> str:
    """The playlist of playlists."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for bitrate in bitrates:
        lines.append(f'#EXT-X-STREAM-INF:BANDWIDTH={bitrate * 1100},CODECS="mp4a.40.2"')
        lines.append(f"{version}/{bitrate}k.m3u8")
    return "\n".join(lines) + "\n"


def replace(path: Path, text: str) -> None:
    """Writes a file whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.rename(path)


def encode(track: Path, building: Path, bitrates: list[int], seconds: int) -> str:
    """Runs ffmpeg; returns what was wrong with the track, or nothing."""
    try:
        done = subprocess.run(
            command(track, building, bitrates, seconds),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"ffmpeg was not done after {LIMIT} s"
    said = done.stderr.strip().splitlines()
    if done.returncode != 0:
        return said[-1] if said else f"ffmpeg: exit {done.returncode}"
    return ""


def package(track: Path, target: Path, version: str, bitrates: list[int], seconds: int) -> str:
    """Makes one version of one track, if it is not there; returns the problem, or nothing."""
    target.mkdir(parents=True, exist_ok=True)
    if not (target / version).exists():
        building = target / f".{version}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        problem = encode(track, building, bitrates, seconds)
        if problem:
            shutil.rmtree(building)
            return problem
        building.rename(target / version)
    replace(target / "index.m3u8", index(version, bitrates))
    return ""


def retire(entry: State) -> None:
    """The version that was current is a former one from now on."""
    if entry["version"]:
        entry["former"][entry["version"]] = time.time()
        entry["version"] = ""


def tidy(target: Path, known: State) -> None:
    """Removes former versions that nobody plays any more, and what is left of tracks that are gone."""
    for name, entry in list(known.items()):
        for version, since in list(entry["former"].items()):
            if time.time() - since > KEEP:
                shutil.rmtree(target / name / version, ignore_errors=True)
                del entry["former"][version]
        if not entry["version"] and not entry["former"] and not entry["problem"]:
            shutil.rmtree(target / name, ignore_errors=True)
            del known[name]


def update(entry: State, path: Path, target: Path, bitrates: list[int], seconds: int) -> bool:
    """Packages a track if it is new or has changed. Returns whether that made a new version."""
    settings, status = f"{bitrates} {seconds}", path.stat()
    stamp = [status.st_size, status.st_mtime, settings]
    if entry["stamp"] == stamp:
        return False
    version = digest(path, settings)
    entry["problem"] = package(path, target, version, bitrates, seconds)
    entry["stamp"] = stamp
    if entry["problem"] or version == entry["version"]:
        return False
    retire(entry)
    entry["former"].pop(version, None)
    entry["version"] = version
    return True


def main(source: Path, target: Path, bitrates: list[int], seconds: int) -> None:
    """Brings the target up to date with the source."""
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = target / ".state.json"
        known: State = json.loads(store.read_text()) if store.exists() else {}
        found, made = tracks(source), 0
        for name in set(known) - set(found):
            (target / name / "index.m3u8").unlink(missing_ok=True)
            retire(known[name])
            known[name].update(stamp=[], problem="")
        for name, path in found.items():
            entry = known.setdefault(
                name, {"stamp": [], "version": "", "former": {}, "problem": ""}
            )
            made += update(entry, path, target / name, bitrates, seconds)
            replace(store, json.dumps(known, indent=1))
        tidy(target, known)
        replace(store, json.dumps(known, indent=1))
    broken = {name: entry["problem"] for name, entry in known.items() if entry["problem"]}
    for name, problem in broken.items():
        print(f"<4>{name} is broken: {problem}", file=sys.stderr)
    print(f"{made} tracks packaged, {len(found) - len(broken)} of {len(found)} can be played")


if __name__ == "__main__":
    os.umask(0o022)
    words = sys.argv[3].split(",")
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in words], int(sys.argv[4]))
