"""A long task sums up what its commands did, and shows the end of what failed out of sight."""

from __future__ import annotations

import sys

import pytest

from backline.tasks.steps import TAIL, Step, StepsError, run_all


def python(title: str, code: str) -> Step:
    return Step(title, [sys.executable, "-c", code], again=f"inv {title}")


def test_a_failure_keeps_the_end_of_its_output_and_the_others_run(capfd) -> None:
    bad = python("bad", f"print('early'); [print('line', n) for n in range({TAIL})]; exit(3)")
    with pytest.raises(StepsError, match="1 of 2 failed: bad") as caught:
        run_all([bad, python("good", "print('done')")], at_once=2)
    assert caught.value.hint == "inv bad"
    (tail,) = caught.value.tails
    assert "early" not in tail
    assert tail.splitlines()[0] == "== bad, the end of its output"
    assert tail.endswith(f"line {TAIL - 1}")
    assert "ok     good" in capfd.readouterr().out


def test_what_was_shown_as_it_ran_is_not_kept(capfd) -> None:
    with pytest.raises(StepsError) as caught:
        run_all([python("bad", "print('seen'); exit(1)")])
    assert caught.value.tails == ()
    assert "seen" in capfd.readouterr().out
