"""The judge of the fault suite: it says "two writable" and "lost" when it has to, and not when in doubt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data import judge, summary, trial
from tests.data.judge import Sample


def yes(host: str, *times: float, via: str = "beside", took: float = 0.01) -> list[Sample]:
    """Commits that a host acknowledged, each asked for at a time."""
    return [Sample(via, host, t, t + took, True, f"{via}-{host}-{t}") for t in times]


def no(host: str, *times: float, via: str = "beside") -> list[Sample]:
    return [Sample(via, host, t, t + 0.01, False) for t in times]


def often(begin: float, end: float) -> list[float]:
    """Five times a second."""
    return [begin + n / 5 for n in range(int((end - begin) * 5) + 1)]


def test_a_handover_is_no_two() -> None:
    found = [*yes("db1", *often(0, 10)), *no("db1", *often(10.2, 20))]
    found += [*no("db2", *often(0, 12)), *yes("db2", *often(12.2, 20))]
    assert judge.two_writable(found) == []
    assert [(span.host, span.begin, span.end) for span in judge.spans(found)] == [
        ("db1", pytest.approx(0.01), 10.0),
        ("db2", pytest.approx(12.21), pytest.approx(20.0)),
    ]


def test_two_hosts_that_take_writes_at_once_are_found() -> None:
    found = [*yes("db1", *often(0, 10)), *yes("db2", *often(9, 20))]
    proofs = judge.two_writable(found)
    assert any("db1 (beside) 0.010-10.000 and db2 (beside) 9.010-20.000" in p for p in proofs)


def test_they_are_found_by_watchers_on_different_ways() -> None:
    """The old primary is out of reach from the network, and takes writes by its socket."""
    found = [*yes("db1", *often(0, 10)), *no("db1", *often(5, 10), via="network")]
    found += yes("db2", *often(8, 12), via="network")
    assert judge.two_writable(found)


def test_one_single_commit_of_another_host_in_between_is_enough() -> None:
    found = [*yes("db1", *often(0, 10)), *no("db2", 4.6, 5.3), *yes("db2", 5.05)]
    (proof,) = judge.two_writable(found)
    assert "a commit of db2" in proof


def test_a_commit_that_was_open_for_long_may_have_happened_before() -> None:
    """Asked for before its host stood still, acknowledged after it went on: no proof."""
    found = [*yes("db1", *often(0, 5)), *yes("db1", 5.2, took=40), *yes("db2", *often(25, 60))]
    assert judge.two_writable(found) == []


def test_a_host_that_goes_on_after_it_stood_still_is_found() -> None:
    found = [*yes("db1", *often(0, 5)), *yes("db1", 5.2, took=40), *yes("db1", 45.3)]
    assert judge.two_writable([*found, *yes("db2", *often(25, 60))])


def test_a_span_does_not_reach_over_silence() -> None:
    found = [*yes("db1", *often(0, 5), *often(50, 60)), *yes("db2", *often(20, 40))]
    assert judge.two_writable(found) == []


def test_a_refusal_ends_a_span() -> None:
    found = [*yes("db1", 0, 0.2), *no("db1", 0.4), *yes("db1", 0.6, 0.8), *yes("db2", 0.41)]
    assert judge.two_writable(found) == []


def test_an_open_question_is_no_commit() -> None:
    found = [*yes("db2", *often(0, 10)), Sample("beside", "db1", 2.0, None, False)]
    assert judge.two_writable(found) == []


def test_lost_is_what_was_acknowledged_and_is_not_there() -> None:
    assert judge.lost(["a", "b", "c"], ["c", "a", "never asked"]) == ["b"]
    assert judge.lost(["a"], ["a"]) == []


def entry(what: str, told: float, client: str = "", **more: Any) -> dict[str, Any]:
    return {"what": what, "told": told, "client": client, **more}


def writes(client: str, *times: float) -> list[dict[str, Any]]:
    return [entry("ack", t, client, asked=t - 0.01, id=f"r-{client}-{t}") for t in times]


def test_the_longest_wait_of_any_client_counts_and_not_the_luck_of_another() -> None:
    log = [entry("begin", 0, retries=0), entry("client", 0, "a"), entry("client", 0, "b")]
    log += [*writes("a", 1, 2, 9, 10), *writes("b", 1, 2, 5, 10), entry("end", 10)]
    found = judge.clients([log])
    assert (found.pause, found.gap) == (7, 4)
    assert len(found.acknowledged) == 8


def test_a_client_that_never_writes_again_has_waited_until_the_end() -> None:
    log = [entry("begin", 0, retries=1), entry("client", 0, "a"), *writes("a", 1), entry("end", 61)]
    assert judge.clients([log]).pause == 60
    silent = [entry("begin", 0, retries=1), entry("client", 0, "a"), entry("end", 30)]
    assert judge.clients([silent]).pause == 30


def test_errors_and_rows_given_up_are_counted_by_how_often_clients_try() -> None:
    plain = [entry("begin", 0, retries=0), entry("error", 1, "a", why="closed")]
    plain += [entry("gave up", 1, "a", id="x"), *writes("a", 2)]
    again = [entry("begin", 0, retries=1), entry("error", 1, "b", why="closed"), *writes("b", 2)]
    found = judge.clients([plain, again])
    assert (found.errors, found.gave_up, found.why) == (2, {0: 1, 1: 0}, {"closed": 2})


def test_jobs_that_were_confirmed_and_never_done_are_lost() -> None:
    one = [entry("consumes", 0), entry("confirmed", 1, id="a"), entry("confirmed", 2, id="b")]
    one += [entry("done", 2, id="a"), entry("refused", 3, id="c"), entry("gave up", 4, id="c")]
    found = judge.jobs([one, [entry("done", 5, id="other")]])
    assert (found.confirmed, found.lost, found.refused, found.gave_up) == (2, ["b"], 1, 1)
    with pytest.raises(AssertionError, match="did not come to its end"):
        found.safe()
    with pytest.raises(AssertionError, match=r"LOST 1: \['b'\]"):
        judge.jobs([[*one, entry("end", 9)]]).safe()
    judge.jobs([[*one, entry("done", 8, id="b"), entry("end", 9)]]).safe()


def test_a_consumer_that_does_nothing_has_a_gap_although_another_works() -> None:
    idle = [entry("consumes", 0), entry("done", 1, id="a"), entry("published", 40)]
    busy = [entry("consumes", 0), *(entry("done", t, id=str(t)) for t in range(1, 40))]
    busy.append(entry("published", 40))
    assert judge.jobs([idle, busy]).gap == 39
    assert judge.jobs([busy]).gap == 1


def test_after_the_last_job_there_is_nothing_to_wait_for() -> None:
    log = [entry("consumes", 0), entry("done", 1, id="a"), entry("published", 2), entry("end", 33)]
    assert judge.jobs([log]).gap == 1


def test_watchers_that_saw_nothing_prove_nothing() -> None:
    assert judge.blind([], ["db1"]) == [
        "nobody watched db1 (beside)",
        "no watcher (beside) saw any host take a write",
        "nobody watched db1 (network)",
        "no watcher (network) saw any host take a write",
    ]
    found = [*yes("db1", 1), *yes("db1", 1, via="network"), *no("db2", 1)]
    assert judge.blind(found, ["db1", "db2"]) == ["nobody watched db2 (network)"]


def test_a_line_that_was_cut_off_says_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"what": "ack", "id": "a"}\n{"what": "ack", "i\n{"what": "end"}\n')
    assert [e["what"] for e in judge.entries(log)] == ["ack", "end"]


def dump(file: Path, log: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(e) + "\n" for e in log))


def recorded(
    folder: Path, name: str, pause: float, rows: list[str] | None, second: bool = False
) -> None:
    """A trial on disk: a client that waited for `pause`, and a primary, or two of them."""
    place = folder / f"{len(list(folder.iterdir()))}-{name}"
    place.mkdir()
    dump(place / "trial.json", [{"kind": "database", "name": name}])
    log = [entry("begin", 0, retries=0), entry("client", 0, "a"), *writes("a", 0.5, 0.5 + pause)]
    dump(place / "writer-stream1.jsonl", log)
    samples = [*yes("db1", *often(0, 3)), *(yes("db2", *often(1, 2)) if second else no("db2", 1))]
    for via in ("beside", "network"):
        lines = [
            {"via": via, "host": s.host, "asked": s.asked, "told": s.told, "id": f"{via}{s.id}"}
            | {"answer": "yes" if s.yes else "no: in recovery"}
            for s in samples
        ]
        dump(place / f"{via}-x.jsonl", lines)
    if rows is None:
        return
    probes = [f"{via}{s.id}" for via in ("beside", "network") for s in samples if s.yes]
    found = {"rows": [*rows, *probes], "hosts": ["db1", "db2"]}
    dump(place / "found.json", [found])


def test_a_verdict_is_read_from_a_recording(tmp_path: Path) -> None:
    recorded(tmp_path, "killed", 4.5, ["r-a-0.5", "r-a-5.0"])
    verdict = trial.read(next(tmp_path.iterdir()))
    verdict.safe()
    assert (verdict.clients.pause, verdict.probes) == (4.5, 32)


def test_a_lost_row_and_a_lost_probe_make_the_verdict_unsafe(tmp_path: Path) -> None:
    recorded(tmp_path, "killed", 4.5, ["r-a-0.5"])
    place = next(tmp_path.iterdir())
    with pytest.raises(AssertionError, match=r"LOST 1: \['r-a-5.0'\]"):
        trial.read(place).safe()
    found = json.loads((place / "found.json").read_text())
    found["rows"] = [*found["rows"][:-1], "r-a-5.0"]
    dump(place / "found.json", [found])
    with pytest.raises(AssertionError, match="LOST 1"):
        trial.read(place).safe()


def test_two_primaries_make_the_verdict_unsafe(tmp_path: Path) -> None:
    recorded(tmp_path, "cut", 1, ["r-a-0.5", "r-a-1.5"], second=True)
    with pytest.raises(AssertionError, match="TWO WRITABLE"):
        trial.read(next(tmp_path.iterdir())).safe()


def test_a_host_that_nobody_watched_makes_the_verdict_unsafe(tmp_path: Path) -> None:
    recorded(tmp_path, "cut", 1, ["r-a-0.5", "r-a-1.5"])
    place = next(tmp_path.iterdir())
    (place / "beside-x.jsonl").write_text("")
    with pytest.raises(AssertionError, match="nobody watched db1"):
        trial.read(place).safe()


def test_the_summary_has_medians_and_maxima_and_names_what_did_not_end(tmp_path: Path) -> None:
    for pause in (2.0, 8.0, 3.0):
        recorded(tmp_path, "killed", pause, ["r-a-0.5", f"r-a-{0.5 + pause}"])
    recorded(tmp_path, "killed", 1.0, None)
    (tmp_path / "9-note").mkdir()
    dump(tmp_path / "9-note" / "trial.json", [{"kind": "note", "name": "drill"}])
    dump(tmp_path / "9-note" / "note.json", [{"good": False, "phase": "verify"}])
    text = summary.publish(tmp_path)
    killed, drill = json.loads((tmp_path / "summary.json").read_text())["rows"]
    assert (killed["trials"], killed["unfinished"], killed["lost"]) == (4, 1, 0)
    assert (killed["pause_median_s"], killed["pause_max_s"]) == (3.0, 8.0)
    assert drill["notes"] == [{"good": False, "phase": "verify"}]
    assert "drill: good False, phase verify" in text
    assert text.splitlines()[1].split()[-2:] == ["3.0", "8.0"]
