"""What patch.yml says to hostctl: a run that was killed is gone on with at once, nobody else's is touched."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import drain, facts

from .fake_host import Lab

PROGRAM = Path(__file__).parents[3] / "playbooks" / "files" / "host_drain.py"
FIRST, SECOND = "patch-20261126T030500Z-ann-1234", "patch-20261126T031000Z-ann-5678"
ANN, BOB = "ann@laptop", "bob@desk"


class Refused(Exception):
    """Where the program would end with 1."""


@pytest.fixture
def program(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("host_drain", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def hostctl(verb: str, **fields: Any) -> Any:
        status, answer = lab.call(verb, **{"run": ..., "token": ..., **fields})
        if status:
            raise Refused(answer["error"]["code"])
        return answer

    monkeypatch.setattr(module, "hostctl", hostctl)
    monkeypatch.setattr(module, "FLAG", lab.host.path(drain.FLAG))
    monkeypatch.setattr(module, "MARK", lab.host.path(facts.UPKEEP))
    monkeypatch.setattr(module, "AFTER_BOOT", lab.host.path(drain.BY_PATCH))
    return module


def on(program: Any, run: str, holder: str = ANN, killed: str = "") -> None:
    program.main("on", "jukebox", run, "900", "patch", holder, killed)


def test_who_drains_a_host_is_told(lab: Lab, program: Any) -> None:
    on(program, FIRST)
    found = lab.ok("facts")
    assert (found["drained"], found["drained_by"], found["upkeep"]) == (True, FIRST, FIRST)
    assert lab.ok("lease", action="show")["lease"]["holder"] == ANN


def test_the_next_run_of_who_was_killed_need_not_wait(lab: Lab, program: Any) -> None:
    on(program, FIRST)
    on(program, SECOND, killed=FIRST)
    assert lab.ok("lease", action="show")["lease"]["run"] == SECOND
    program.main("off", "jukebox", SECOND, "60", "patched", ANN, FIRST)
    assert lab.ok("facts")["drained"] is False and lab.ok("facts")["drained_by"] is None
    assert lab.ok("lease", action="show")["lease"] is None


def test_of_several_that_were_killed_any_may_have_had_it(lab: Lab, program: Any) -> None:
    on(program, FIRST)
    on(program, SECOND, killed=f"{FIRST},patch-of-another-host")
    assert lab.ok("lease", action="show")["lease"]["run"] == SECOND


@pytest.mark.parametrize(
    ("holder", "killed"), [(BOB, FIRST), (ANN, ""), (ANN, "patch-of-long-ago")]
)
def test_the_lease_of_anybody_else_is_respected(
    lab: Lab, program: Any, holder: str, killed: str
) -> None:
    on(program, FIRST)
    with pytest.raises(Refused, match="lease_held"):
        on(program, SECOND, holder, killed)
    assert lab.ok("lease", action="show")["lease"]["run"] == FIRST
    assert lab.ok("facts")["upkeep"] == FIRST


def test_a_rotation_takes_up_what_the_one_before_it_left_and_nobody_elses(
    lab: Lab, program: Any
) -> None:
    first, second, third = (f"rotate-20261126T23595{n}Z-00000{n}" for n in range(3))
    on(program, first)
    with pytest.raises(Refused, match="lease_held"):
        on(program, second, BOB, first)
    on(program, second, killed=first)
    program.main("leave", "jukebox", second, "60", "patch", ANN, first)
    facts = lab.ok("facts")
    assert (facts["drained"], facts["drained_by"]) == (True, first)
    assert lab.ok("lease", action="show")["lease"] is None
    on(program, third, BOB)
    program.main("off", "jukebox", third, "60", "patched", BOB)
    assert lab.ok("facts")["drained"] is False


def test_a_run_that_was_killed_half_way_into_the_drain_is_made_whole(
    lab: Lab, program: Any
) -> None:
    """Else the host is in service after its reboot, before anybody has looked at it."""
    on(program, FIRST)
    program.AFTER_BOOT.unlink()
    on(program, SECOND, killed=FIRST)
    assert SECOND in program.AFTER_BOOT.read_text()


def test_what_another_playbook_drains_is_no_upkeep(lab: Lab, program: Any) -> None:
    on(program, "rotate-20261126T030500Z")
    assert lab.ok("facts")["drained"] is True and lab.ok("facts")["upkeep"] is None


def test_a_host_that_an_operator_had_drained_is_not_marked(lab: Lab, program: Any) -> None:
    lab.take(run="drain-1")
    lab.ok("drain", action="on", run="drain-1")
    lab.ok("lease", action="release", run="drain-1")
    on(program, FIRST)
    program.main("off", "jukebox", FIRST, "60", "patched", ANN)
    assert lab.ok("facts")["drained"] is True and not program.AFTER_BOOT.exists()


def test_a_flag_that_nobody_signed_names_nobody(lab: Lab) -> None:
    for content in ("", "\n", "\x1b[31m\n"):
        lab.host.path(drain.FLAG).write_text(content)
        found = lab.ok("facts")
        assert (found["drained"], found["drained_by"]) == (True, None)


def test_a_host_on_which_a_playbook_is_at_work_says_so(lab: Lab) -> None:
    assert lab.ok("facts")["upkeep"] is None
    lab.path("var/lib/backline/upkeep").write_text(f"{FIRST}\n")
    assert lab.ok("facts")["upkeep"] == FIRST
