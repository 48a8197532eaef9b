"""fab audit, fab audit.verify, fab report: what they print, and what their exit codes are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from calling import call
from fake_fleet import FakeClock, FakeFleet, FakeHost
from made_runs import NEW, START, bad_run, begun, good_run, lease, record, samples

import backline.tasks.records
import backline.tasks.report
import backline.tasks.trail
from backline import inventory
from backline.hostctl import journal as chain
from backline.inventory import Environment, Host
from backline.transport.port import HostError

GOOD, BAD, CUT = (f"20260102T{hour}0000Z-ann-000{n}" for n, hour in enumerate((10, 11, 12)))


class Journaled(FakeFleet):
    """Hosts that have journals to show."""

    def __init__(self, journals: dict[str, list[dict[str, Any]]]) -> None:
        super().__init__([FakeHost(name, ()) for name in journals], FakeClock())
        self.journals = journals
        self.broken: dict[str, str] = {}

    def __enter__(self) -> Journaled:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def _journal(self, host: FakeHost, fields: Any) -> dict[str, Any]:
        if fields["app"] != "jukebox":
            raise HostError(host.name, "no such app", code="unknown_app")
        newer = [e for e in self.journals[host.name] if e["seq"] > fields["after"]]
        problem = self.broken.get(host.name)
        return {"intact": not problem, "problem": problem, "entries": newer[: fields["limit"]]}


def linked(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last, found = chain.NO_PREDECESSOR, []
    for number, entry in enumerate(entries, start=1):
        whole = {"seq": number, "at": START, **entry, "prev": last}
        whole["hash"] = last = chain.digest(whole)
        found.append(whole)
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The records of three runs: one good, one rolled back, one cut off; and three hosts' names."""
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    hosts = {n: Host(n, n, 22, "deploy", None, None, None, ()) for n in ("stream1", "stream2")}
    known = Environment("stage", tmp_path, hosts, {}, False, ())
    monkeypatch.setattr(inventory, "load", lambda name: known)
    folder = tmp_path / ".backline" / "stage"
    journal = record(folder, GOOD, [good_run()])
    samples(journal.with_name("probe.jsonl"), failed=(9.0,))
    record(folder, BAD, [bad_run("[red]it smokes[/red]")])
    record(folder, CUT, [[begun(message=""), lease()]], end=False)
    return folder


@pytest.fixture
def fleet(root: Path, monkeypatch: pytest.MonkeyPatch) -> Journaled:
    """Two hosts that tell what the records here tell, with more lines than one answer holds."""
    lines = (root / "runs" / GOOD / "journal.jsonl").read_text().splitlines()
    heads = [{"seq": e["seq"], "hash": e["hash"]} for e in map(json.loads, lines)]
    shared = {"run": GOOD, "token": 1, "verb": "switch", "process": "web"}
    told = [{**shared, "controller": head} for head in heads]
    made = Journaled({name: linked(told) for name in ("stream1", "stream2")})
    monkeypatch.setattr(backline.tasks.trail, "reach", lambda environment: made)
    monkeypatch.setattr(backline.tasks.records, "PAGE", 4)
    return made


show, verify = backline.tasks.trail.show, backline.tasks.trail.verify
report = backline.tasks.report.report


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_audit_lists_who_what_why_and_how_it_ended(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(show) == 0
    out = capsys.readouterr().out
    for words in (NEW, "done (0) in 15.1 s", "rolled back (4)", "unfinished", "why: why"):
        assert words in out
    for words in ("by ann@desk", "plan abc123", f"run {GOOD}"):
        assert words in out
    assert out.index(GOOD) < out.index(BAD) < out.index(CUT)


def test_audit_in_json_and_no_more_than_asked_for(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(show, json=True, limit=2) == 0
    bad, cut = rows(capsys)
    assert (bad["run"], bad["exit_code"], bad["actor"], bad["plan"], bad["message"]) == (
        *(BAD, 4, "ann@desk"),
        *("abc123", "why"),
    )
    assert bad["seconds"] == 6.1 and bad["schema_version"] == 1
    assert (cut["run"], cut["exit_code"], cut["ended"]) == (CUT, None, None)


def test_one_run_as_a_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(show, run=BAD[:15]) == 0
    out = capsys.readouterr().out
    assert "stream1   web       failed: check: [red]it smokes[/red]" in out
    assert "batch 1 of 2: stream1" in out
    assert max(map(len, out.splitlines())) <= 80
    assert call(show, run="latest", json=True) == 0
    assert [row["event"] for row in rows(capsys)] == ["begun", "lease"]


@pytest.mark.parametrize("commands", [False, True])
def test_a_list_that_ends_at_a_damaged_line_says_so(
    root: Path, capsys: pytest.CaptureFixture[str], commands: bool
) -> None:
    path = root / "audit.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{}\n", *lines[2:]]))
    assert call(show, commands=commands) == 1
    out, err = capsys.readouterr()
    assert (GOOD in out) is not commands and BAD not in out and "was run from here" not in out
    assert "audit.jsonl is damaged: line 3" in err and "fab audit.verify --env stage" in err
    assert call(show, commands=commands, json=True) == 1
    assert rows(capsys)[-1]["event"] == "error"


def test_a_run_that_is_not_there_names_those_that_are(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(show, run="2031") == 1
    assert CUT in capsys.readouterr().err
    assert call(show, run="2026") == 1
    assert "3 runs begin with" in capsys.readouterr().err


def test_nothing_was_done_yet(tmp_path: Path, root: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path / "fresh"))
    assert call(show) == 0
    assert call(verify, local=True) == 0


def test_verify_asks_the_hosts_page_by_page(
    fleet: Journaled, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(verify) == 0
    err = capsys.readouterr().err
    assert "2 journals of hosts" in " ".join(err.split()) and "unfinished" in err
    pages = [f["after"] for host, verb, f in fleet.calls if (host, verb) == ("stream1", "journal")]
    assert len(pages) > 3 and pages == sorted(pages)


def test_verify_here_alone_asks_nobody(fleet: Journaled) -> None:
    assert call(verify, local=True) == 0
    assert fleet.calls == []


def test_an_edited_line_is_named_in_words_and_in_json(
    fleet: Journaled, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "runs" / GOOD / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"text":"why"', b'"text":"because"'))
    assert call(verify) == 1
    assert f"runs/{GOOD}/journal.jsonl line 1" in " ".join(capsys.readouterr().err.split())
    assert call(verify, json=True, local=True) == 1
    first, *_, last = (row for row in rows(capsys) if row["event"] in ("problem", "error"))
    assert (first["where"], first["line"]) == (f"runs/{GOOD}/journal.jsonl", 1)
    assert last["event"] == "error" and last["exit_code"] == 1


def test_a_host_that_cannot_be_asked_is_a_failure(
    fleet: Journaled, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead.add("stream2")
    assert call(verify) == 1
    assert "stream2: could not be asked: no answer" in capsys.readouterr().err
    assert call(verify, on="stream1") == 0


def test_a_host_that_says_its_journal_is_whole_is_not_simply_believed(
    fleet: Journaled, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.journals["stream1"][3]["process"] = "mail"
    assert call(verify) == 1
    assert "stream1 (jukebox) line 4" in capsys.readouterr().err


def test_a_run_that_only_hosts_know(fleet: Journaled, capsys: pytest.CaptureFixture[str]) -> None:
    entries = fleet.journals["stream1"]
    last = {"seq": len(entries) + 1, "at": START, "run": "x", "prev": entries[-1]["hash"]}
    entries.append({**last, "hash": chain.digest(last)})
    assert call(verify) == 0
    assert "runs known to hosts and not here (1)" in capsys.readouterr().err
    assert call(verify, alone=True) == 1
    assert "run x is known to stream1 and not here: dropped" in capsys.readouterr().err


def test_the_report_lies_beside_the_journal_and_its_path_is_the_answer(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(report, GOOD) == 0
    target = root / "runs" / GOOD / "report.html"
    assert capsys.readouterr().out == f"{target}\n"
    text = target.read_text()
    assert text.startswith("<!doctype html>") and "150" in text and "/: 502" in text
    assert target.stat().st_mode & 0o077 == 0
    assert [path.name for path in target.parent.glob(".*")] == []


def test_the_report_goes_where_it_is_wanted(root: Path, tmp_path: Path) -> None:
    assert call(report, BAD, out=str(tmp_path / "sub" / "page.html")) == 0
    assert "[red]it smokes[/red]" in (tmp_path / "sub" / "page.html").read_text()


def test_the_report_in_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(report, GOOD, json=True) == 0
    (row,) = rows(capsys)
    assert (row["release"], row["summary"]["failed_requests"]) == (NEW, 1)
    assert row["batches"][0]["verdict"]["well"] is True
    assert not (root / "runs" / GOOD / "report.html").exists()


def test_a_report_of_a_damaged_journal_says_so(root: Path) -> None:
    path = root / "runs" / GOOD / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert "the journal is damaged" in backline.tasks.report.write("stage", GOOD).read_text()


def test_no_report_of_an_empty_journal(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "runs" / CUT / "journal.jsonl").write_bytes(b"")
    assert call(report, CUT) == 1
    assert "no report can be made" in capsys.readouterr().err
