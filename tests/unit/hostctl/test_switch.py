"""switch and rollback: who serves, now and after a reboot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .fake_host import R1, R2, R3, Lab

UNIT = "jukebox-{}@{}.service"


@pytest.fixture
def served(lab: Lab) -> Iterator[Lab]:
    """R1 is live, R2 runs beside it."""
    lab.plant(R1, R2, R3)
    lab.take(lifetime=3600)
    for release in (R1, R2):
        lab.ok("start", release=release, process="web")
    assert lab.ok("switch", release=R1, process="web")["previous"] is None
    yield lab


def current(lab: Lab) -> tuple[str, str]:
    links = (lab.path("run/jukebox/current.sock"), lab.path("srv/jukebox/current"))
    return str(links[0].readlink()), str(links[1].readlink())


def live(lab: Lab, process: str = "web") -> object:
    return lab.ok("status")["processes"][process]["live"]


def test_switch_changes_what_serves_now_and_after_a_reboot(served: Lab) -> None:
    assert served.ok("switch", release=R2, process="web") == {
        "ok": True, "previous": R1, "already": False, "switched_at": served.clock.wall
    }  # fmt: skip
    assert current(served) == (f"{R2}.sock", f"releases/{R2}")
    assert served.systemd.enabled() == {UNIT.format("web", R2)}
    tmpfiles = served.path("etc/tmpfiles.d/backline-jukebox.conf").read_text().splitlines()
    assert tmpfiles[-1] == f"L+ /run/jukebox/current.sock - - - - {R2}.sock"
    assert live(served) == R2
    assert served.systemd.running() == {UNIT.format("web", R1), UNIT.format("web", R2)}


def test_switching_again_is_harmless_and_still_knows_the_one_before(served: Lab) -> None:
    switched_at = served.ok("switch", release=R2, process="web")["switched_at"]
    served.clock.sleep(9)
    entries = len(served.journal())
    assert served.ok("switch", release=R2, process="web") == {
        "ok": True, "previous": R1, "already": True, "switched_at": switched_at
    }  # fmt: skip
    assert len(served.journal()) == entries


def test_switching_again_repairs_what_was_lost(served: Lab) -> None:
    served.ok("switch", release=R2, process="web")
    served.path("run/jukebox/current.sock").unlink()
    served.path("etc/tmpfiles.d/backline-jukebox.conf").unlink()
    served.systemd._enable([UNIT.format("web", R3)], [])
    answer = served.ok("switch", release=R2, process="web")
    assert (answer["previous"], answer["already"]) == (R1, False)
    assert current(served)[0] == f"{R2}.sock"
    assert served.systemd.enabled() == {UNIT.format("web", R2)}


def test_there_is_no_moment_without_a_socket(served: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    link = served.path("run/jukebox/current.sock")
    real = Path.symlink_to

    def watch(self: Path, *arguments: object, **options: object) -> None:
        assert link.is_symlink()
        real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "symlink_to", watch)
    served.ok("switch", release=R2, process="web")
    assert not link.with_name(".current.sock.tmp").is_symlink()


def test_listeners_are_never_sent_to_a_process_that_is_not_there(served: Lab) -> None:
    assert served.refused("switch", release=R3, process="web") == (6, "not_running")
    served.ok("start", release=R3, process="web")
    served.path(f"run/jukebox/{R3}.sock").unlink()
    assert served.refused("switch", release=R3, process="web") == (6, "not_running")
    assert current(served) == (f"{R1}.sock", f"releases/{R1}")


def test_the_live_process_is_not_stopped_by_mistake(served: Lab) -> None:
    assert served.refused("stop", release=R1, process="web") == (6, "live_release")
    assert UNIT.format("web", R1) in served.systemd.running()
    served.ok("stop", release=R1, process="web", force=True)
    served.ok("switch", release=R2, process="web")
    assert served.ok("stop", release=R1, process="web")["already"] is True


def test_workers_are_enabled_and_have_no_socket(lab: Lab) -> None:
    lab.plant(R1, R2)
    lab.take()
    for release in (R1, R2):
        lab.ok("start", release=release, process="worker-plays")
        lab.ok("switch", release=release, process="worker-plays")
    assert lab.systemd.enabled() == {UNIT.format("worker-plays", R2)}
    assert not lab.path("run/jukebox/current.sock").is_symlink()
    assert live(lab, "worker-plays") == R2 and live(lab) is None


def test_rollback_to_a_warm_release_starts_nothing(served: Lab) -> None:
    served.ok("switch", release=R2, process="web")
    assert served.ok("rollback", process="web") == {
        "ok": True, "previous": R2, "release": R1, "started": False, "already": False,
        "switched_at": served.clock.wall,
    }  # fmt: skip
    assert current(served)[0] == f"{R1}.sock"


def test_rollback_to_a_cold_release_starts_and_checks_it(served: Lab) -> None:
    served.ok("switch", release=R2, process="web")
    served.ok("stop", release=R1, process="web")
    answer = served.ok("rollback", process="web", to=R1)
    assert answer["started"] is True and live(served) == R1
    assert served.ok("rollback", process="web", to=R1)["already"] is True


def test_rollback_to_a_release_that_somebody_is_starting_checks_it_as_a_new_one(
    served: Lab,
) -> None:
    served.ok("switch", release=R2, process="web")
    served.ok("stop", release=R1, process="web")
    served.systemd._start([UNIT.format("web", R1)], [])
    served.systemd.unit(UNIT.format("web", R1))["polls"] = 3
    asked: list[str] = []

    def answer(path: str) -> int:
        asked.append(path)
        return 200

    served.systemd.answer = answer
    assert served.ok("rollback", process="web")["started"] is True
    assert len(asked) == 3


def test_rollback_never_switches_to_an_unhealthy_release(served: Lab) -> None:
    served.ok("switch", release=R2, process="web")
    served.systemd.answer = lambda path: 500
    assert served.refused("rollback", process="web", deadline=2) == (1, "unhealthy")
    assert current(served)[0] == f"{R2}.sock"


def test_rollback_without_a_release_before(lab: Lab) -> None:
    lab.plant(R1)
    lab.take()
    assert lab.refused("rollback", process="web") == (1, "no_previous")


def test_rollback_to_a_bad_release_needs_force(served: Lab) -> None:
    served.ok("switch", release=R2, process="web")
    served.ok("mark", release=R1, state="bad")
    assert served.refused("rollback", process="web") == (6, "bad_release")
    served.ok("rollback", process="web", force=True)


def test_damaged_state_is_not_guessed_at(served: Lab) -> None:
    served.path("var/lib/backline/jukebox/state.json").write_text("{torn")
    assert served.refused("switch", release=R2, process="web") == (1, "state_damaged")
    assert current(served)[0] == f"{R1}.sock"
