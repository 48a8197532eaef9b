"""fab media: what Ansible is told to publish, and which caches drop what."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from calling import Captured, call

from backline import inventory
from backline.inventory import Environment, Host
from backline.provision.recap import Recap
from backline.tasks import media, provision
from backline.transport.playbook import Ended
from backline.transport.port import HostError, Outcome, Unreachable

GROUPS = {"media": ("media1", "media2"), "streaming": ("stream1", "stream2")}


class Hosts:
    """Caches that count. `dead`: these do not answer."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.files = 3
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def each(
        self, hosts: Iterable[str], work: Any, *, deadline: float, done: Any = None
    ) -> dict[str, Outcome[Any]]:
        found = {}
        for host in hosts:
            try:
                found[host] = Outcome(work(host))
            except HostError as error:
                found[host] = Outcome(error=error)
            done(host, found[host])
        return found

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float
    ) -> dict[str, Any]:
        assert verb == "cache" and deadline > fields["seconds"]
        if host in self.dead:
            raise Unreachable(host, "no route to host")
        self.told.append((host, fields))
        return {"files": self.files, "bytes": self.files * 1_000_000, "seen": 40}


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    made = Hosts()
    known = {
        name: Host(name, name, 22, "deploy", None, None, None, ())
        for names in GROUPS.values()
        for name in names
    }
    fleet = Environment("stage", tmp_path, known, GROUPS, True, ())
    monkeypatch.setattr(inventory, "load", lambda name: fleet)
    monkeypatch.setattr(media, "reach", lambda environment: made)
    return made


@pytest.fixture
def ran(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Hosts and options of each run of the playbook `media`, in place of Ansible; it tells of progress."""
    options: list[list[str]] = []

    def run(
        fleet: Any, name: str, words: list[str], stock: bool, view: Any, limit: list[str]
    ) -> Any:
        assert name == "media"
        options.append([",".join(limit), *words])
        recap = Recap(ended=True)
        for text in ("media1: 2 of 5 files published, 40 of 90 MiB", "something else"):
            view.take(recap, {"event": "verbose", "stdout": text})
        return recap, Ended(0, False, "")

    monkeypatch.setattr(provision, "run", run)
    return options


def told(words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(words[words.index("-e") + 1])
    return found


def test_a_folder_is_published_on_all_origins(
    ran: list[list[str]], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "music").mkdir()
    monkeypatch.chdir(tmp_path)
    assert call(media.sync, folder="music", yes=2) == 0
    (words,) = ran
    assert words[:3] == ["media1,media2", "--tags", "media_publish"]
    assert "--check" not in words
    assert told(words) == {
        "media_source": str(tmp_path / "music"),
        "media_purge": False,
        "media_replace": False,
    }
    err = capsys.readouterr().err
    assert "2 of 5 files published" in err and "something else" not in err


def test_a_rehearsal_of_a_sync_asks_nobody(
    ran: list[list[str]], tmp_path: Path, capsys: Captured
) -> None:
    flags = {"exclude": "*.json, drafts/*", "remove": True, "replace": True, "on": "media2"}
    assert call(media.sync, folder=str(tmp_path), dry_run=True, json=True, **flags) == 0
    (words,) = ran
    assert "--check" in words and "--diff" in words and words[0] == "media2"
    extra = told(words)
    assert extra["media_exclude"] == ["*.json", "drafts/*"] and extra["media_purge"] is True
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "progress" in [row["event"] for row in found]


def test_a_sync_that_means_nothing_is_refused(ran: list[list[str]], tmp_path: Path) -> None:
    assert call(media.sync, folder=str(tmp_path / "nowhere"), yes=2) == 1
    assert call(media.sync, folder=str(tmp_path), on="stream1", yes=1) == 1
    assert call(media.sync, folder=str(tmp_path), yes=3) == 6
    assert ran == []


def test_purge_counts_asks_and_drops(hosts: Hosts, capsys: Captured) -> None:
    assert call(media.purge, paths="album/*", dry_run=True) == 0
    assert "would be dropped: 6 pieces, 6.0 MB, on stream[1-2]" in capsys.readouterr().err
    assert {fields["action"] for _, fields in hosts.told} == {"show"}
    hosts.told.clear()
    assert call(media.purge, paths="album/*", json=True) == 6
    assert hosts.told == []
    capsys.readouterr()
    assert call(media.purge, paths="a.flac, b/c.flac", json=True, yes=2, message="wrong cut") == 0
    assert [host for host, _ in hosts.told] == ["stream1", "stream2"]
    fields = hosts.told[0][1]
    assert fields["paths"] == ["a.flac", "b/c.flac"] and fields["message"] == "wrong cut"
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["event"], row["files"]) for row in found] == [("purged", 3)] * 2


def test_a_comma_of_a_name_is_escaped(hosts: Hosts, capsys: Captured) -> None:
    assert call(media.purge, paths=r"Live/Hello\, Goodbye.flac, b.flac", yes=2) == 0
    assert hosts.told[0][1]["paths"] == ["Live/Hello, Goodbye.flac", "b.flac"]
    assert "no piece" not in capsys.readouterr().err


def test_a_purge_that_finds_nothing_says_which_names_it_was_given(
    hosts: Hosts, capsys: Captured
) -> None:
    """What nobody has played is in no cache, and that is no error; a comma may have been none."""
    hosts.files = 0
    assert call(media.purge, paths="Live/Hello, Goodbye.flac", yes=2) == 0
    err = capsys.readouterr().err
    assert "no piece of 'Live/Hello', 'Goodbye.flac' is in these caches" in err and r"\," in err
    assert call(media.purge, paths="a.flac", dry_run=True) == 0
    err = capsys.readouterr().err
    assert "no piece of 'a.flac'" in err and "comma" not in err


def test_what_is_lost_is_counted_before_the_question(
    hosts: Hosts, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    before: list[str] = []

    def answer() -> str:
        before.append(capsys.readouterr().err)
        assert {fields["action"] for _, fields in hosts.told} == {"show"}
        return "2"

    monkeypatch.setattr("builtins.input", answer)
    assert call(media.purge, paths="a.flac") == 0
    assert "stream1: 3 of " in before[0] and "would be dropped: 6 pieces" in before[0]
    assert "drop a.flac on stream[1-2] of stage" in before[0] and "2 hosts" not in before[0]
    assert "dropped: 6 pieces" in capsys.readouterr().err
    hosts.told.clear()
    hosts.dead = {"stream2"}
    assert call(media.purge, paths="a.flac") == 1, "where it can be done, it is"
    assert "stream2: no route to host" in before[1]


def test_a_host_that_did_not_drop_is_told_of(hosts: Hosts, capsys: Captured) -> None:
    hosts.dead = {"stream2"}
    assert call(media.purge, paths="a.flac", yes=2) == 1
    err = capsys.readouterr().err
    assert "stream2: no route to host" in err and "may hear old slices" in err
    assert [host for host, _ in hosts.told] == ["stream1"]
    assert call(media.purge, paths="a.flac", dry_run=True, json=True) == 1
    found = {row["host"]: row for row in map(json.loads, capsys.readouterr().out.splitlines()[:2])}
    assert [row["files"] for row in found.values()] == [3, None]
    assert (found["stream2"]["bytes"], found["stream2"]["seen"]) == (None, None)


@pytest.mark.parametrize(
    "flags", [{"paths": " , "}, {"location": "_media"}, {"timeout": 0}, {"on": "media1"}]
)
def test_a_purge_that_means_nothing_is_refused(hosts: Hosts, flags: dict[str, Any]) -> None:
    assert call(media.purge, **{"paths": "a.flac", "yes": 2, **flags}) == 1
    assert hosts.told == []
