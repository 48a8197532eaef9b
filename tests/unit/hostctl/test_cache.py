"""`hostctl cache`: exactly what was meant is dropped, and nothing outside of the cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import cache

from .fake_host import Lab

# What nginx 1.22 writes before the key: a header of numbers, an ETag, and bytes that mean nothing to us.
BINARY = b"\x05\0\0\0\0\0\0\0" + bytes(range(1, 9)) + b"\0" * 320
SLICES = ("bytes=0-1048575", "bytes=1048576-2097151")
KEYS = [
    *(f"/_media/album/song.flac{part}" for part in SLICES),
    f"/_media/album/song.flac?v=abc{SLICES[0]}",
    f"/_media/album/song.flac2{SLICES[0]}",
    f"/_media/album/song.flac.jpg{SLICES[0]}",
    f"/_media/album2/song.flac{SLICES[0]}",
    f"/_media/été (live)+1.wav{SLICES[0]}",
    "/_media/hls/track/index.m3u8",
]


def put(lab: Lab, key: str) -> Path:
    """A file as nginx keeps it: levels=1:2."""
    name = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    path = lab.host.path(cache.FOLDER) / name[-1] / name[-3:-1] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(BINARY + b"\nKEY: " + key.encode() + b"\nHTTP/1.1 206\r\n\r\n" + b"x" * 1000)
    return path


@pytest.fixture
def files(lab: Lab) -> dict[str, Path]:
    return {key: put(lab, key) for key in KEYS}


def purge(lab: Lab, *paths: str, action: str = "purge", **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = lab.ok("cache", app=..., action=action, paths=list(paths), **more)
    return answer


def left(files: dict[str, Path]) -> set[str]:
    return {key for key, path in files.items() if path.exists()}


def test_a_file_goes_in_all_its_slices_and_versions_and_nothing_else(
    lab: Lab, files: dict[str, Path]
) -> None:
    assert purge(lab, "album/song.flac", action="show")["files"] == 3
    assert left(files) == set(KEYS)
    answer = purge(lab, "album/song.flac")
    assert (answer["files"], answer["seen"]) == (3, len(KEYS)) and answer["bytes"] > 3000
    assert left(files) == set(KEYS[3:])
    assert purge(lab, "album/song.flac")["files"] == 0


@pytest.mark.parametrize(
    ("paths", "gone"),
    [
        (["album/*"], 5),
        (["album*"], 6),
        (["*"], len(KEYS)),
        (["été (live)+1.wav"], 1),
        (["hls/track/index.m3u8", "album2/song.flac"], 2),
        (["hls/track/*"], 1),
        (["song.flac"], 0),
        ([".*"], 0),
    ],
)
def test_stars_and_odd_names(lab: Lab, files: dict[str, Path], paths: list[str], gone: int) -> None:
    assert purge(lab, *paths)["files"] == gone
    assert len(left(files)) == len(KEYS) - gone


@pytest.mark.parametrize("paths", [[], ["/etc/*"], ["a*b"], ["**"], [""], [7], ["a\nb"], "album/*"])
def test_what_is_no_path_drops_nothing(lab: Lab, files: dict[str, Path], paths: object) -> None:
    status, _ = lab.refused("cache", app=..., action="purge", paths=paths)
    assert status == 2 and left(files) == set(KEYS)


def test_nothing_is_followed_out_of_the_cache(lab: Lab, files: dict[str, Path]) -> None:
    """Whoever took nginx over could plant links, and hostctl is root."""
    outside = lab.path("srv/elsewhere")
    outside.mkdir(parents=True)
    name = "0" * 32
    secret = outside / name
    secret.write_bytes(files[KEYS[0]].read_bytes())
    folder = lab.host.path(cache.FOLDER)
    (folder / "link").symlink_to(outside)
    (folder / name).symlink_to(secret)
    os.mkfifo(folder / ("1" * 32))
    purge(lab, "*")
    assert secret.exists() and (folder / name).is_symlink()


def test_what_is_being_written_or_is_not_nginx_s_stays(lab: Lab, files: dict[str, Path]) -> None:
    folder = lab.host.path(cache.FOLDER)
    partial = folder / ("2" * 32 + ".0000000017")
    partial.write_bytes(files[KEYS[0]].read_bytes())
    strange = folder / ("3" * 32)
    strange.write_bytes(b"no key in here")
    purge(lab, "*")
    assert partial.exists() and strange.exists() and not left(files)


def test_it_ends_in_time_and_says_so(lab: Lab, files: dict[str, Path]) -> None:
    lab.host.boottime = iter(range(0, 10_000, 400)).__next__  # type: ignore[assignment]
    assert lab.refused("cache", app=..., action="purge", paths=["*"])[1] == "deadline"


def test_a_host_without_a_cache_says_so(lab: Lab) -> None:
    assert lab.refused("cache", app=..., action="show", paths=["*"]) == (1, "no_cache")
