"""run.json, notes, wants, quarantine: what any machine needs to take up somebody else's run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backline.hostctl import runs

from .fake_host import R1, R2, Lab

PLAN = {"release": R1, "batches": [["stream1"], ["stream2"]]}


def stored(lab: Lab) -> Any:
    return json.loads(lab.path("var/lib/backline/jukebox/run.json").read_text())


def lose_the_lease(lab: Lab, run: str) -> None:
    lab.clock.sleep(61)
    lab.run, lab.token = run, lab.token + 1


def test_the_plan_is_on_the_host_before_the_lease_is_granted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backline.hostctl import lease

    def fail(*_: object) -> None:
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(lease, "_write", fail)
        assert lab.refused("lease", action="take", plan=PLAN)[0] == 1
    assert lab.ok("status")["lease"] is None and lab.ok("status")["run"]["plan"] == PLAN
    lab.token = 2
    lab.take(plan=PLAN)
    assert stored(lab) == {
        "run": "run-1", "token": 2, "plan": PLAN, "notes": [], "ended": None, "wanted": None
    }  # fmt: skip


def test_the_same_run_takes_its_lease_again_and_keeps_plan_and_notes(lab: Lab) -> None:
    lab.take(plan=PLAN, holder="ann")
    lab.take(plan=PLAN, holder="ann")
    assert len(lab.journal()) == 1
    lab.ok("note", note={"batch": 1})
    lab.token = 2
    lab.take(holder="ann")  # its own lease: at once
    assert (stored(lab)["token"], stored(lab)["plan"]) == (2, PLAN)
    assert stored(lab)["notes"] == [{"batch": 1}]
    lab.take(holder="ann", plan={"changed": True})
    assert stored(lab)["plan"] == {"changed": True} and stored(lab)["notes"] == [{"batch": 1}]
    assert [entry["plan"] for entry in lab.journal() if entry["event"] == "take"] == [
        True, False, True
    ]  # fmt: skip


def test_a_run_that_did_not_end_is_not_forgotten(lab: Lab) -> None:
    lab.take(plan=PLAN, holder="ann@desk")
    lose_the_lease(lab, "run-2")
    status, answer = lab.call("lease", action="take", plan={"other": 1})
    assert (status, answer["error"]["code"]) == (6, "unfinished_run")
    assert (answer["error"]["run"], answer["error"]["holder"]) == ("run-1", "ann@desk")
    assert "deploy.resume" in answer["error"]["hint"]
    assert lab.ok("lease", action="show")["fence"] == 1
    lab.take(plan={"other": 1}, replace=True)
    assert (stored(lab)["run"], stored(lab)["plan"]) == ("run-2", {"other": 1})
    assert lab.journal()[-1]["replace"] is True


def test_work_without_a_plan_is_never_refused_and_leaves_the_run_alone(lab: Lab) -> None:
    lab.take(plan=PLAN)
    before = stored(lab)
    lose_the_lease(lab, "run-2")
    lab.take()
    lab.ok("drain", action="on")
    lab.ok("lease", action="release", ended="new")
    assert stored(lab) == before


def test_an_ended_run_makes_place(lab: Lab) -> None:
    lab.take(plan=PLAN)
    assert lab.ok("lease", action="release", ended="mixed")["lease"] is None
    assert stored(lab)["ended"] == "mixed" and lab.journal()[-1]["ended"] == "mixed"
    lab.run, lab.token = "run-2", 2
    lab.take(plan={"other": 1})
    lab.ok("lease", action="release")
    assert stored(lab)["ended"] is None  # released, but not ended


def test_a_mixed_run_is_taken_up_again(lab: Lab) -> None:
    lab.take(plan=PLAN)
    lab.ok("note", note={"batch": 1})
    lab.ok("want", want="abort")
    lab.ok("lease", action="release", ended="mixed")
    lab.token = 2
    lab.take()
    assert stored(lab)["ended"] == "mixed"
    lab.take(plan=PLAN)
    assert (stored(lab)["ended"], stored(lab)["wanted"]) == (None, None)
    assert stored(lab)["notes"] == [{"batch": 1}]


def test_a_run_says_how_it_ended_even_when_its_lease_ran_out(lab: Lab) -> None:
    lab.take(plan=PLAN)
    lab.clock.sleep(61)
    lab.ok("lease", action="release", ended="old")
    lab.ok("lease", action="release", ended="old")
    assert stored(lab)["ended"] == "old"
    assert [entry["event"] for entry in lab.journal()] == ["take", "release"]
    lab.take(token=2, run="run-2")
    assert lab.refused("lease", action="release", ended="new") == (6, "stale_token")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"plan": "text"}, "bad_field"),
        ({"plan": {"x": "y" * runs.PLAN_LIMIT}}, "too_large"),
        ({"plan": PLAN, "replace": "yes"}, "bad_field"),
    ],
)
def test_odd_plans_are_refused(lab: Lab, fields: dict[str, Any], code: str) -> None:
    lab.take(plan=PLAN)
    lose_the_lease(lab, "run-2")
    assert lab.refused("lease", action="take", **fields) == (2, code)


def test_a_damaged_run_file_is_not_guessed_at(lab: Lab) -> None:
    lab.take(plan=PLAN)
    lab.path("var/lib/backline/jukebox/run.json").write_text("{torn")
    lab.token = 2
    assert lab.refused("lease", action="take", plan=PLAN) == (1, "state_damaged")
    assert lab.path("var/lib/backline/jukebox/fence").read_text() == "1\n"


def test_want_needs_no_lease_and_reaches_the_run_by_its_renewals(lab: Lab) -> None:
    lab.take(plan=PLAN)
    answer = lab.ok("want", want="pause", actor="bob", token=...)
    assert answer["wanted"] == {"want": "pause", "actor": "bob", "at": lab.clock.wall}
    assert lab.ok("lease", action="renew")["wanted"]["want"] == "pause"
    assert lab.ok("want", want="pause", token=...)["already"] is True
    assert (lab.journal()[-1]["verb"], lab.journal()[-1]["want"]) == ("want", "pause")
    assert (lab.journal()[-1]["actor"], len(lab.journal())) == ("bob", 2)
    assert lab.ok("want", want="go")["wanted"] is None
    assert lab.ok("lease", action="show")["wanted"] is None


def test_want_is_for_the_unfinished_run_only(lab: Lab) -> None:
    assert lab.refused("want", want="abort") == (6, "no_such_run")
    lab.take(plan=PLAN)
    assert lab.refused("want", want="abort", run="run-2") == (6, "no_such_run")
    assert lab.refused("want", want="explode") == (2, "bad_field")
    lab.ok("lease", action="release", ended="new")
    assert lab.refused("want", want="abort") == (6, "no_such_run")


def test_notes_are_kept_on_the_host_and_in_its_journal(lab: Lab) -> None:
    lab.take(plan=PLAN)
    assert lab.ok("note", note={"batch": 1}) == {"ok": True, "notes": 1, "already": False}
    assert lab.ok("note", note={"batch": 1})["already"] is True
    lab.ok("note", note={"batch": 2})
    assert lab.ok("status")["run"]["notes"] == [{"batch": 1}, {"batch": 2}]
    said = [entry["note"] for entry in lab.journal() if entry["event"] == "note"]
    assert said == [{"batch": 1}, {"batch": 2}]
    assert lab.refused("note", note=["x"]) == (2, "bad_field")
    assert lab.refused("note", note={"x": "y" * runs.NOTE_LIMIT}) == (2, "too_large")


def test_notes_are_fenced_and_not_without_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.take()
    assert lab.refused("note", note={"batch": 1}) == (6, "no_such_run")
    lab.token = 2
    lab.take(plan=PLAN)
    monkeypatch.setattr(runs, "NOTES", 1)
    lab.ok("note", note={"batch": 1})
    assert lab.refused("note", note={"batch": 2}) == (6, "too_large")
    lose_the_lease(lab, "run-1")
    assert lab.refused("note", note={"batch": 3}) == (6, "lease_required")


def test_every_record_names_the_end_of_the_controllers_journal(lab: Lab) -> None:
    head = {"seq": 41, "hash": "ab" * 32}
    lab.take(head=head)
    lab.ok("drain", action="on")
    assert lab.journal()[0]["controller"] == head and "controller" not in lab.journal()[1]
    for odd in ({}, {"seq": 1}, {**head, "x": 1}, {**head, "seq": -1}, {**head, "hash": "x"}, 7):
        assert lab.refused("facts", head=odd) == (2, "bad_field")


def test_quarantine_is_known_to_every_host(lab: Lab) -> None:
    lab.take()
    entry = {"why": "failed its checks", "release": R2, "run": "run-1", "at": 1800000000.0}
    assert lab.ok("quarantine", action="add", hosts={"stream1": entry}) == {
        "ok": True, "quarantine": {"stream1": entry}, "already": False
    }  # fmt: skip
    assert lab.ok("quarantine", action="add", hosts={"stream1": entry})["already"] is True
    lab.ok("quarantine", action="add", hosts={"stream2": {"why": "unreachable"}})
    assert set(lab.ok("status")["quarantine"]) == {"stream1", "stream2"}
    lab.ok("quarantine", action="remove", hosts={"stream1": {}})
    assert set(lab.ok("status")["quarantine"]) == {"stream2"}
    lab.ok("quarantine", action="set", hosts={})
    assert lab.ok("status")["quarantine"] == {}
    assert lab.journal()[-2]["hosts"] == ["stream1"]


@pytest.mark.parametrize(
    "hosts",
    [
        ["stream1"],
        {"../x": {"why": "x"}},
        {"stream1": {}},
        {"stream1": {"why": 7}},
        {"stream1": {"why": "x", "release": "x"}},
        {"stream1": {"why": "x", "odd": 1}},
    ],
)
def test_odd_quarantines_are_refused(lab: Lab, hosts: object) -> None:
    lab.take()
    assert lab.refused("quarantine", action="add", hosts=hosts) == (2, "bad_field")


def test_contracted_is_kept_for_good(lab: Lab) -> None:
    lab.plant(R1)
    lab.take()
    for release in (R1, R2):
        assert lab.ok("mark", release=release, state="contracted")["already"] is False
    assert lab.ok("mark", release=R1, state="contracted")["already"] is True
    assert lab.ok("status")["contracted"] == [R1, R2]
    assert lab.ok("status")["releases"][0]["state"] == "staged"
    lab.ok("prune", keep=1)
    assert lab.ok("status")["contracted"] == [R1, R2]


def test_facts_and_status_in_one_answer(lab: Lab) -> None:
    lab.plant(R1)
    facts = lab.ok("facts", run=..., token=...)
    assert facts["status"] == {k: v for k, v in lab.ok("status").items() if k != "ok"}
    assert "status" not in lab.ok("facts", app=..., run=..., token=...)
    assert lab.refused("facts", app="radio") == (1, "unknown_app")
