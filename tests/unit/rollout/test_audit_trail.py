"""The records of runs: whatever was edited, dropped, reordered or cut off is found, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import START, bad_run, begun, ended, good_run, lease, record, turn

from backline.hostctl import journal as chain
from backline.rollout import audit, witnesses
from backline.rollout.audit import Chain
from backline.tasks import records

RUNS = ("20260102T100000Z-ann-0001", "20260102T110000Z-ann-0002", "20260102T120000Z-ann-0003")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    record(tmp_path, RUNS[0], [good_run()])
    record(tmp_path, RUNS[1], [bad_run()])
    record(tmp_path, RUNS[2], [good_run()])
    return tmp_path


def journals(root: Path) -> dict[str, Chain]:
    return {p.parent.name: records.read_journal(p) for p in root.glob("runs/*/journal.jsonl")}


def verify(root: Path) -> tuple[list[str], list[str]]:
    problems, notes = audit.verify(records.read_journal(root / "audit.jsonl"), journals(root))
    return [str(problem) for problem in problems], notes


def edit(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """What somebody does who knows about the hashes: edits, and makes a whole chain again."""
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    change(entries)
    last, lines = chain.NO_PREDECESSOR, []
    for number, entry in enumerate(entries, start=1):
        entry |= {"seq": number, "prev": last}
        entry["hash"] = last = chain.digest(entry)
        lines.append(json.dumps(entry, separators=(",", ":")) + "\n")
    path.write_text("".join(lines))


def test_what_was_written_is_intact(root: Path) -> None:
    assert verify(root) == ([], [])


@pytest.mark.parametrize("name", ["audit.jsonl", f"runs/{RUNS[1]}/journal.jsonl"])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace(b"1", b"2", 1), *lines[2:]], 2),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"time", b"tame")], -1),
        (lambda lines: lines[1:], 1),
    ],
    ids=["edited", "dropped", "reordered", "the last one edited", "the first one dropped"],
)
def test_a_line_that_was_tampered_with_is_named(
    root: Path, name: str, change: Any, line: int
) -> None:
    path = root / name
    count = len(path.read_bytes().splitlines())
    edit(path, change)
    problems, _ = verify(root)
    assert problems[0].startswith(f"{name} line {line if line > 0 else count}:")


@pytest.mark.parametrize("run", RUNS)
def test_a_journal_that_lost_its_last_lines_is_found(root: Path, run: str) -> None:
    path = root / "runs" / run / "journal.jsonl"
    count = len(path.read_bytes().splitlines())
    edit(path, lambda lines: lines[:-2])
    (problem,), _ = verify(root)
    assert problem == (
        f"runs/{run}/journal.jsonl line {count}: is missing, it ends at line {count - 2}; "
        f"the run ended with line {count}"
    )


def test_a_journal_that_is_gone_is_found(root: Path) -> None:
    shutil.rmtree(root / "runs" / RUNS[1])
    (problem,), _ = verify(root)
    assert RUNS[1] in problem and "it is gone" in problem


def test_a_run_dropped_from_the_audit_log_is_given_away_by_its_journal(root: Path) -> None:
    edit(root / "audit.jsonl", lambda lines: lines[:-2])
    (problem,), _ = verify(root)
    assert problem == f"audit.jsonl: run {RUNS[2]} has a journal and no begin here: dropped"


def test_the_last_line_of_the_audit_log_cannot_be_dropped_either(root: Path) -> None:
    edit(root / "audit.jsonl", lambda lines: lines[:-1])
    (problem,), _ = verify(root)
    assert RUNS[2] in problem and "its end is missing" in problem


def test_a_journal_rewritten_hashes_and_all_is_not_the_one_that_ended(root: Path) -> None:
    path = root / "runs" / RUNS[1] / "journal.jsonl"
    rewrite(path, lambda entries: entries[-1].update(exit_code=0))
    (problem,), _ = verify(root)
    assert problem.endswith("is not the line with which the run ended: rewritten")


def test_an_audit_log_rewritten_hashes_and_all_differs_from_the_journals(root: Path) -> None:
    rewrite(root / "audit.jsonl", lambda entries: entries[2].update(actor="eve@desk"))
    (problem,), _ = verify(root)
    assert problem.startswith(f"runs/{RUNS[1]}/journal.jsonl line 1: who, why")


def test_lines_added_after_the_end_are_found(root: Path) -> None:
    path = root / "runs" / RUNS[0] / "journal.jsonl"
    rewrite(path, lambda entries: entries.append({"event": "done", "time": START}))
    (problem,), _ = verify(root)
    assert problem.endswith("was added after the run had ended")


def test_a_run_that_was_cut_off_is_unfinished_not_tampered_with(root: Path) -> None:
    path = record(root, "20260103T000000Z-ann-0004", [[begun(), lease()]], end=False)
    assert verify(root) == (
        [],
        [f"run {path.parent.name} is unfinished: it began and has not ended here"],
    )
    path.write_bytes(path.read_bytes()[:-20])  # and the power went
    assert verify(root)[0] == []


def test_a_run_that_was_cut_off_and_gone_on_with_is_whole(root: Path) -> None:
    run = "20260103T000000Z-ann-0004"
    record(root, run, [[begun(), lease()]], end=False)
    record(root, run, [[begun(100, "resume"), lease(101, 2), *turn("stream1", 102), ended(120)]])
    assert verify(root) == ([], [])
    found = audit.sittings(
        records.read_journal(root / "audit.jsonl").entries,
        {name: c.entries for name, c in journals(root).items()},
    )
    assert [(s.begin["how"], s.as_json()["exit_code"], s.resumed) for s in found[-2:]] == [
        ("deploy", None, True),
        ("resume", 0, False),
    ]


def test_a_run_killed_as_it_began_did_nothing_that_could_be_hidden(root: Path) -> None:
    run = "20260103T000000Z-ann-0004"
    record(root, run, [[begun()]], end=False)
    edit(root / "audit.jsonl", lambda lines: lines[:-1])
    assert verify(root) == ([], [f"run {run} was killed as it began: nothing was done"])
    # Unless the hosts know better: then somebody made it look like that.
    here = [told(root, RUNS[0], 8), told(root, RUNS[2], 8), told(root, run, 1)]
    _, strangers = witnesses.compare("stream1", "jukebox", host_journal(*here), journals(root))
    assert strangers == {run}


# The hosts.


def host_journal(*entries: dict[str, Any]) -> Chain:
    return Chain([{"seq": n, "at": START, **e} for n, e in enumerate(entries, start=1)])


def told(root: Path, run: str, seq: int, token: int = 1, **more: Any) -> dict[str, Any]:
    """A host's entry that names line `seq` of our journal."""
    entries = journals(root)[run].entries
    digest = entries[seq - 1]["hash"] if seq <= len(entries) else "f" * 64
    head = {"seq": seq, "hash": digest}
    return {
        "run": run,
        "token": token,
        "verb": "switch",
        "process": "web",
        "controller": head,
        **more,
    }


def compare(root: Path, theirs: Chain) -> list[str]:
    found, _ = witnesses.compare("stream1", "jukebox", theirs, journals(root))
    return [str(problem) for problem in found]


def test_a_host_that_says_the_same_is_content(root: Path) -> None:
    theirs = host_journal(told(root, RUNS[0], 8), told(root, RUNS[2], 8))
    assert compare(root, theirs) == []


def test_a_host_gives_away_whoever_rewrote_journal_and_audit_log(root: Path) -> None:
    theirs = host_journal(told(root, RUNS[0], 8), told(root, RUNS[2], 8))
    path = root / "runs" / RUNS[2] / "journal.jsonl"
    rewrite(path, lambda entries: entries[5].update(host="stream9"))
    last = json.loads(path.read_bytes().splitlines()[-1])
    head = {"seq": last["seq"], "hash": last["hash"]}
    rewrite(root / "audit.jsonl", lambda entries: entries[-1].update(journal=head))
    assert verify(root) == ([], [])
    (problem,) = compare(root, theirs)
    assert (
        problem
        == f"runs/{RUNS[2]}/journal.jsonl line 8: is not what line 2 of stream1 says: rewritten"
    )


def test_a_host_whose_chain_is_broken_is_named(root: Path) -> None:
    theirs = Chain([], "line 4 is damaged or was edited")
    assert compare(root, theirs) == ["stream1 (jukebox) line 4: is damaged or was edited"]


def test_a_host_that_forgot_a_switch_is_named(root: Path) -> None:
    theirs = host_journal(told(root, RUNS[0], 8))
    (problem,) = compare(root, theirs)
    assert "the switch of web" in problem and RUNS[2] in problem


def test_a_host_built_anew_has_forgotten_nothing(root: Path) -> None:
    theirs = Chain([{"seq": 1, "at": START + 1000, "run": None}])
    assert compare(root, theirs) == []


def test_runs_of_other_controllers_are_no_tampering(root: Path) -> None:
    here = [told(root, RUNS[0], 8), told(root, RUNS[2], 8)]
    taken_over = {**told(root, RUNS[1], 3, token=9), "controller": {"seq": 3, "hash": "0" * 64}}
    theirs = host_journal(*here, taken_over, {"run": "elsewhere", "token": 3, "verb": "stage"})
    found, strangers = witnesses.compare("stream1", "jukebox", theirs, journals(root))
    assert (found, strangers) == ([], {"elsewhere"})


def test_what_a_killed_controller_said_last_may_never_have_reached_its_disk(root: Path) -> None:
    run = "20260103T000000Z-ann-0004"
    record(root, run, [[begun(), lease(token=5)]], end=False)
    here = [told(root, RUNS[0], 8), told(root, RUNS[2], 8)]
    assert compare(root, host_journal(*here, told(root, run, 3, token=5))) == []
    several = [told(root, run, seq, token=5) for seq in (3, 6)]
    (problem,) = compare(root, host_journal(*here, *several))
    assert problem.endswith("line 3: is missing; stream1 names it and 1 later ones")
    record(root, run, [[begun(100, "resume"), lease(101, 6), *turn("stream2", 102), ended(120)]])
    late = {**told(root, run, 3, token=5), "controller": {"seq": 3, "hash": "0" * 64}}
    assert compare(root, host_journal(*here, late)) == []


def test_a_line_that_a_host_was_told_of_cannot_be_missing(root: Path) -> None:
    count = len(journals(root)[RUNS[2]].entries)
    theirs = host_journal(told(root, RUNS[0], 8), told(root, RUNS[2], count + 4))
    (problem,) = compare(root, theirs)
    assert problem.startswith(f"runs/{RUNS[2]}/journal.jsonl line {count + 4}: is missing")
