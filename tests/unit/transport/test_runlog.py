"""The controller's journal: durable when flushed, whole after a crash, written by one process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from backline.errors import BacklineError
from backline.transport import runlog
from backline.transport.runlog import RunLog


def test_events_form_a_chain_over_several_openings(tmp_path: Path) -> None:
    path = tmp_path / "run-1" / "journal.jsonl"
    with RunLog(path) as log:
        log.add({"event": "begun"})
        log.add({"event": "lease"})
        head = log.head
    with RunLog(path) as log:
        assert log.head == head
        log.add({"event": "ended"})
    found = runlog.read(path)
    assert found.problem is None
    assert [entry["event"] for entry in found.entries] == ["begun", "lease", "ended"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_not_flushed_is_not_there_and_one_flush_writes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync
    log = RunLog(tmp_path / "journal.jsonl")
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), sync(file)))
    for number in range(5):
        log.add({"event": "x", "number": number})
    assert (tmp_path / "journal.jsonl").read_bytes() == b"" and synced == []
    log.flush()
    assert len(synced) == 1
    assert len(runlog.read(tmp_path / "journal.jsonl").entries) == 5
    log.flush()
    assert len(synced) == 1
    log.close()


@pytest.mark.parametrize(
    "change", [lambda b: b.replace(b"begun", b"began"), lambda b: b[b.index(b"\n") + 1 :]]
)
def test_an_edited_or_dropped_line_is_found(tmp_path: Path, change: object) -> None:
    path = tmp_path / "journal.jsonl"
    with RunLog(path) as log:
        log.add({"event": "begun"})
        log.add({"event": "ended"})
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    assert runlog.read(path).problem


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_line_is_accounted_for(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    with RunLog(path) as log:
        log.add({"event": "begun"})
        log.add({"event": "lease"})
    path.write_bytes(path.read_bytes()[:-cut])
    with RunLog(path) as log:
        log.add({"event": "resumed"})
    found = runlog.read(path)
    assert found.problem is None, cut
    verbs = [entry.get("verb") or entry.get("event") for entry in found.entries]
    assert verbs[0] == "begun" and verbs[-1] == "resumed"
    assert "journal.recovered" in verbs or verbs == ["begun", "lease", "resumed"]


def test_only_one_process_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "run-1" / "journal.jsonl"
    with RunLog(path), pytest.raises(BacklineError, match="another process") as raised:
        RunLog(path)
    assert raised.value.exit_code == 5
    with RunLog(path) as log:
        log.add({"event": "free again"})


def test_lines_are_json_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with RunLog(path) as log:
        log.add({"event": "x", "text": "line\nbreak \u2028"})
    assert [json.loads(line)["seq"] for line in path.read_bytes().splitlines()] == [1]
