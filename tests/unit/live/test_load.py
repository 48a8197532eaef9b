"""The load counts right: a test of a rollout believes it."""

from __future__ import annotations

import json
import time
import uuid
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import load_run
from tests.http_server import SONG, Server
from tests.load_run import Run, remembered
from tests.load_tally import percentiles


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def config(server: Server, folder: Path, **more: Any) -> Path:
    content = {
        "base": server.base,
        "ca": None,
        "connect": None,
        "rate": 100.0,
        "mix": {"kept": 2, "fresh": 1, "play": 1},
        "pages": ["/"],
        "tracks": ["a-song"],
        "cookies": "sessionid=1; csrftoken=2",
        "csrf": "2",
        "timeout": 2.0,
        "limit": 20.0,
        "plays": str(folder / "plays"),
        "streams": None,
        **more,
    }
    path = folder / "load.json"
    path.write_text(json.dumps(content))
    return path


def load(server: Server, folder: Path, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    with Run(config(server, folder, **more), folder / "log") as run:
        time.sleep(seconds)
        return run.stop()


def test_every_request_is_counted_and_every_play_remembered(server: Server, tmp_path: Path) -> None:
    result = load(server, tmp_path, 1.5)
    assert result["requests"] == len(server.requests) > 50
    assert (result["failed"], result["failures"]) == (0, {})
    assert result["releases"] == {"r1": result["requests"]}
    counts = result["counts"]
    assert abs(counts["kept"] - 2 * counts["play"]) <= 4 and counts["fresh"] > 10
    sent, taken = remembered(tmp_path / "plays")
    assert sent == taken and len(taken) == counts["play"] == result["plays_taken"]
    bodies = [body.decode() for body in server.bodies if body]
    assert {body.partition("&play=")[2] for body in bodies} == sent
    assert all(body.startswith("track=a-song&") for body in bodies)


def test_failures_are_told_by_what_was_wrong(server: Server, tmp_path: Path) -> None:
    failures = {
        "/broken": "500",
        "/reset": "reset",
        "/short": "truncated",
        "/stall": "timeout",
        "/moved": "302",
    }
    mix = {"kept": 1, "fresh": 1}
    result = load(server, tmp_path, 1.0, pages=["/", *failures], timeout=0.3, mix=mix)
    told: dict[str, int] = {}
    for text, count in result["failures"].items():
        place, _, failure = text.partition(": ")
        kind, path = place.split()
        assert kind in mix and failure.startswith(failures[path])
        told[path] = told.get(path, 0) + count
    assert told == {path: server.seen[path] for path in failures}, "each once, and no retries"
    assert min(told.values()) > 5 and result["failed"] == sum(told.values())
    assert len(result["details"]) == result["failed"]


def test_a_play_without_its_202_is_not_counted_on(server: Server, tmp_path: Path) -> None:
    server.stop()
    result = load(server, tmp_path, 0.8, mix={"play": 1})
    sent, taken = remembered(tmp_path / "plays")
    assert result["failed"] == result["requests"] == len(sent) > 5
    assert taken == set()


def test_windows_divide_the_requests_by_when_they_were_due(server: Server, tmp_path: Path) -> None:
    with Run(config(server, tmp_path, pages=["/slow"], mix={"kept": 1}), tmp_path / "log") as run:
        time.sleep(1.2)
        run.mark("deploy 1")
        time.sleep(0.6)
        result = run.stop()
    first, second = result["windows"]
    assert [first["name"], second["name"]] == ["start", "deploy 1"]
    assert first["requests"] + second["requests"] == result["requests"] == len(server.requests)
    for window in (first, second):
        assert abs(window["requests"] - 100 * (window["to"] - window["from"])) < 70
    assert second["latency_ms"]["p50"] >= 500


def test_requests_are_due_however_slow_the_answers_are(server: Server, tmp_path: Path) -> None:
    result = load(server, tmp_path, 1.5, pages=["/slow"], mix={"fresh": 1})
    assert result["requests"] > 80, "half a second each, one after the other would be three"


@pytest.mark.parametrize(
    ("path", "whole", "failure"),
    [
        ("/song", True, ""),
        ("/song-wrong", False, "stream: wrong bytes"),
        ("/song-short", False, "stream: truncated"),
    ],
)
def test_each_byte_of_a_song_is_checked(
    server: Server, tmp_path: Path, path: str, whole: bool, failure: str
) -> None:
    (tmp_path / "song").write_bytes(SONG)
    streams = {"count": 3, "seconds": 0.3, "path": path, "content": str(tmp_path / "song")}
    result = load(server, tmp_path, 1.0, streams=streams, rate=5.0)["streams"]
    assert bool(result["whole"]) == whole and bool(result["failed"]) != whole
    assert set(result["failures"]) == ({failure} if failure else set())
    if whole:
        assert result["bytes"] > 3 * len(SONG) // 2


def test_a_part_of_a_long_song_is_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(SONG)
    streams = {"count": 1, "seconds": 0.2, "path": "/song", "content": str(tmp_path / "song")}
    result = load(server, tmp_path, 1.0, streams={**streams, "length": 5000}, rate=5.0)["streams"]
    assert result["whole"] >= 2 and result["bytes"] == 5000 * result["whole"]
    assert result["failed"] == 0


def test_a_song_is_heard_slowly_and_quickly_at_the_end(server: Server, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(SONG)
    streams = {"count": 2, "seconds": 60, "path": "/song", "content": str(tmp_path / "song")}
    began = time.monotonic()
    result = load(server, tmp_path, 1.0, streams=streams, rate=5.0)["streams"]
    assert (result["whole"], result["failed"]) == (2, 0)
    assert time.monotonic() - began < 10


def test_percentiles() -> None:
    assert percentiles(array("d")) == {}
    found = percentiles(array("d", [float(n) for n in range(101)]))
    assert found == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}


def test_plays_are_compared_with_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, late, lost, unsure, twice, alien = (str(uuid.uuid4()) for _ in range(6))
    lines = [f"sent {play}" for play in (good, late, lost, unsure, twice)]
    lines += [f"taken {play}" for play in (good, late, lost, twice)]
    (tmp_path / "plays").write_text("\n".join(lines))
    asked = []

    def ask(fleet: object, query: str) -> list[str]:
        asked.append(query)
        return [good, twice, twice, alien, *([late] if len(asked) > 1 else [])]

    monkeypatch.setattr(load_run, "_ask_database", ask)
    found = load_run.check(None, tmp_path / "plays", limit=0.5)  # type: ignore[arg-type]
    assert found == load_run.Plays(4, {lost}, {twice}, {alien}, 1)
    assert not found.right and len(asked) == 2
