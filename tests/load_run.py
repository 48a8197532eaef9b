"""Starts the load (load.py) on a fleet, and asks the fleet's database what became of the plays."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backline.tasks.steps import ROOT
from tests.live import CATALOGUE, Fleet

MIX = {"kept": 6, "fresh": 3, "play": 1}
#: Bytes of a long song to ask for at a time: more than the sockets on the way will hold.
RANGE = 24 * 1024 * 1024
PAGES = ["/", "/version", *(f"/tracks/{song['slug']}/" for song in CATALOGUE)]


def prepare(
    fleet: Fleet, folder: Path, *, song: tuple[str, bytes] | None = None, **more: Any
) -> Path:
    """Signs a listener up and writes the load's configuration into `folder`; its path.

    `song`: (path, content) of what is heard slowly, the catalogue's first by default. That one is
    short (0.9 MB): the edge takes all of it from the streaming host at once, and only the edge then
    sees a slow listener. To keep streaming hosts busy, name one of 50 MB or more. `more`: keys
    of the configuration, see load.py; `streams` (how many) and `seconds` (for each song).
    """
    listener = fleet.listener()
    path, content = song or _catalogue_song(listener)
    (folder / "song").write_bytes(content)
    cookies = {cookie.name: cookie.value or "" for cookie in listener.jar}
    streams, seconds = more.pop("streams", 4), more.pop("seconds", 120.0)
    config = {
        "base": listener.base,
        "ca": str(fleet.ca),
        "connect": "127.0.0.1:" + listener.base.rpartition(":")[2],
        "rate": 100.0,
        "mix": MIX,
        "pages": PAGES,
        "tracks": [song["slug"] for song in CATALOGUE],
        "cookies": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "csrf": cookies["csrftoken"],
        "timeout": 10.0,
        "limit": 1800.0,
        "plays": str(folder / "plays"),
        "streams": {
            "count": streams,
            "seconds": seconds,
            "path": path,
            "content": str(folder / "song"),
            "length": RANGE,
        }
        if streams
        else None,
        **more,
    }
    file = folder / "load.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    file.chmod(0o600)
    return file


def _catalogue_song(listener: Any) -> tuple[str, bytes]:
    song = CATALOGUE[0]
    path = f"/tracks/{song['slug']}/stream"
    # A second request in the middle: the listener looks at it, which is no play.
    _, tail, _ = listener.get(path, {"Range": f"bytes=2-{song['size'] - 1}"})
    _, head, _ = listener.get(path, {"Range": "bytes=0-1"})
    assert hashlib.sha256(head + tail).hexdigest() == song["sha256"]
    return path, head + tail


class Run:
    """The load while it runs, a context manager; progress goes to `log`.

    `config`: what `prepare` wrote, or any configuration.
    """

    def __init__(self, config: Path, log: Path | None = None) -> None:
        self.config, self._log = config, log
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Run:
        with (self._log or Path("/dev/null")).open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.load", str(self.config)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log if self._log else None,
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def mark(self, name: str) -> None:
        """From now on requests count in the window called `name`."""
        assert self._process and self._process.stdin
        self._process.stdin.write(f"mark {name}\n")
        self._process.stdin.flush()

    def stop(self, limit: float = 90.0) -> dict[str, Any]:
        """Ends the load within `limit` seconds; its result."""
        assert self._process
        out, _ = self._process.communicate("stop\n", timeout=limit)
        result: dict[str, Any] = json.loads(out)
        return result


@dataclass
class Plays:
    """Plays as the load remembers them and as the database has them.

    `lost`: answered 202, and not there. `twice`: there more than once. `unasked`: there, of this
    listener, never sent. `unsure`: sent, no 202; they may be there or not, both is right.
    """

    taken: int = 0
    lost: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)
    unasked: set[str] = field(default_factory=set)
    unsure: int = 0

    @property
    def right(self) -> bool:
        return not (self.lost or self.twice or self.unasked)


def remembered(file: Path) -> tuple[set[str], set[str]]:
    """(sent, taken) UUIDs of a run, from the file that the load wrote."""
    sent: set[str] = set()
    taken: set[str] = set()
    for line in file.read_text(encoding="utf-8").splitlines():
        word, _, play = line.partition(" ")
        (taken if word == "taken" else sent).add(play)
    return sent, taken


def recorded(fleet: Fleet, plays: set[str]) -> Counter[str]:
    """How often each play of the listener who sent `plays` is in the database.

    The listener is found by one of the plays; so the list is never sent, and rows that nobody asked
    for are found, too. Empty when none of them is there.
    """
    some = "','".join(sorted(plays)[:50])
    query = (
        "select id from music_play where listener_id in "
        f"(select listener_id from music_play where id in ('{some}'))"
    )
    return Counter(_ask_database(fleet, query))


def check(fleet: Fleet, file: Path, limit: float = 60.0) -> Plays:
    """Compares a run's plays with the database; waits at most `limit` s for workers to catch up."""
    sent, taken = remembered(file)
    deadline = time.monotonic() + limit
    while True:
        rows = recorded(fleet, sent)
        lost = taken - set(rows)
        if not lost or time.monotonic() > deadline:
            break
        time.sleep(1)
    return Plays(
        taken=len(taken),
        lost=lost,
        twice={play for play, times in rows.items() if times > 1},
        unasked=set(rows) - sent,
        unsure=len(sent - taken),
    )


def _ask_database(fleet: Fleet, query: str) -> list[str]:
    """The rows of a query of one column, asked of the database that takes writes."""
    for host in fleet.hosts("database"):
        primary = "select not pg_is_in_recovery()"
        command = f'cd /; sudo -u postgres psql jukebox -XAt -c "{primary}" -c "{query}"'
        answer = fleet.on(host, command, expect=None)
        first, *rows = answer.out.split() or [""]
        if answer.code == 0 and first == "t":
            return rows
    raise AssertionError(f"no database of {fleet.hosts('database')} takes writes")
