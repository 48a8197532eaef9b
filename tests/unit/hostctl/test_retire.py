"""A later stop: a timer that needs no controller, and never stops what serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backline.hostctl import cli

from .fake_host import R1, R2, Lab, environment

UNIT = "jukebox-web@{}.service"
TIMER = f"backline-retire-jukebox-web-{R1}"


@pytest.fixture
def warm(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """R2 is live, R1 runs beside it and is to be retired in five minutes."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    lab.plant(R1, R2)
    lab.take(lifetime=3600)
    for release in (R1, R2):
        lab.ok("start", release=release, process="web")
        lab.ok("switch", release=release, process="web")
    expected = {"ok": True, "stopped": False, "scheduled": 300.0, "already": False}
    assert lab.ok("stop", release=R1, process="web", after=300) == expected
    yield lab


def fire(lab: Lab, name: str = TIMER) -> int:
    """The timer's time has come."""
    _, command = lab.systemd.timers.pop(name)
    return cli.main(command[1:], lab.host)


def test_the_timer_stops_what_is_warm_without_any_lease(warm: Lab) -> None:
    assert warm.systemd.timers[TIMER][0] == "300s"
    assert UNIT.format(R1) in warm.systemd.running()
    warm.ok("lease", action="release")
    socket = warm.path(f"run/jukebox/{R1}.sock")
    assert fire(warm) == 0
    assert warm.systemd.running() == {UNIT.format(R2)} and not socket.exists()
    told = [(e["verb"], e["event"], e["actor"], e["run"]) for e in warm.journal()[-2:]]
    assert told == [("retire", "begin", "timer", None), ("retire", "done", "timer", None)]
    assert warm.ok("journal")["intact"] is True


def test_scheduling_it_again_leaves_the_first_one(warm: Lab) -> None:
    entries = len(warm.journal())
    assert warm.ok("stop", release=R1, process="web", after=300)["already"] is True
    assert len(warm.journal()) == entries
    assert warm.journal()[-1]["event"] == "scheduled" and warm.journal()[-1]["after"] == 300.0


@pytest.mark.parametrize("verb", ["start", "switch", "rollback"])
def test_whoever_needs_it_again_cancels_the_timer(warm: Lab, verb: str) -> None:
    warm.ok(verb, process="web", **({} if verb == "rollback" else {"release": R1}))
    assert warm.systemd.timers == {}
    cancelled = ["systemctl", "stop", f"{TIMER}.timer", f"{TIMER}.service"]
    assert cancelled in warm.systemd.calls


def test_stopping_it_now_cancels_the_timer_too(warm: Lab) -> None:
    warm.ok("stop", release=R1, process="web")
    assert warm.systemd.timers == {}


def test_what_is_live_by_then_stays(warm: Lab) -> None:
    kept = dict(warm.systemd.timers)
    warm.ok("rollback", process="web")
    warm.systemd.timers.update(kept)  # as if cancelling it had failed
    entries = len(warm.journal())
    assert fire(warm) == 0
    assert UNIT.format(R1) in warm.systemd.running() and len(warm.journal()) == entries


def test_what_is_stopped_by_then_is_not_stopped_again(warm: Lab) -> None:
    kept = dict(warm.systemd.timers)
    warm.ok("stop", release=R1, process="web")
    warm.systemd.timers.update(kept)
    entries = len(warm.journal())
    assert fire(warm) == 0 and len(warm.journal()) == entries


def test_a_slow_end_is_waited_for(warm: Lab) -> None:
    warm.systemd.stops_after = 10_000
    assert fire(warm) == 1
    assert warm.journal()[-1]["error"] == "stop_timeout"


def test_nobody_goes_around_the_lease_by_it(warm: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--app", "jukebox", "--process", "web", "--release", R1]
    with environment(SUDO_USER="deploy"):
        assert cli.main(["retire", *flags], warm.host) == 6
    assert "only its timer" in capsys.readouterr().err
    assert UNIT.format(R1) in warm.systemd.running()
    assert cli.main(["retire", "--app", "jukebox"], warm.host) == 2
    assert cli.main(["retire", "--help"]) == 0


def test_the_live_one_is_not_scheduled(warm: Lab) -> None:
    assert warm.refused("stop", release=R2, process="web", after=9) == (6, "live_release")


def test_a_timer_that_cannot_be_made_is_told(warm: Lab) -> None:
    warm.ok("start", release=R1, process="worker-plays")
    warm.systemd.schedules = False
    refused = warm.refused("stop", release=R1, process="worker-plays", after=9)
    assert refused == (1, "systemd_failed")
    assert f"jukebox-worker-plays@{R1}.service" in warm.systemd.running()


def test_a_retire_that_is_cancelled_ends_quietly(
    warm: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(*_: object) -> None:
        raise cli.Interrupted("SIGTERM")

    warm.systemd.stops_after = 5
    monkeypatch.setattr(warm.host, "sleep", cancelled)
    assert fire(warm) == 130
    assert warm.journal()[-1]["event"] == "begin"
