"""The lease: one run at a time, and nobody who slept past the end of it."""

from __future__ import annotations

import os
import time

from .fake_host import R1, Lab


def lease(lab: Lab) -> dict[str, object] | None:
    found: dict[str, object] | None = lab.ok("lease", action="show")["lease"]
    return found


def test_take_show_renew_release(lab: Lab) -> None:
    assert lab.ok("lease", action="show") == {
        "ok": True, "lease": None, "fence": 0, "wanted": None
    }  # fmt: skip
    answer = lab.ok("lease", action="take", holder="ann@desk", lifetime=60)
    assert answer["fence"] == 1
    assert answer["lease"] == {
        "run": "run-1", "token": 1, "holder": "ann@desk", "lifetime": 60, "expires_in": 60.0
    }  # fmt: skip
    lab.clock.sleep(50)
    assert lab.ok("lease", action="renew")["lease"]["expires_in"] == 60.0
    assert lab.ok("lease", action="release") == {
        "ok": True, "lease": None, "fence": 1, "wanted": None
    }  # fmt: skip
    assert lab.ok("lease", action="release")["lease"] is None


def test_another_run_is_refused_and_told_who_and_how_long(lab: Lab) -> None:
    lab.take(holder="ann@desk", lifetime=30)
    lab.clock.sleep(10)
    status, answer = lab.call("lease", action="take", run="run-2", token=9, holder="bob")
    assert status == 5
    assert answer["error"]["holder"] == "ann@desk"
    assert answer["error"]["expires_in"] == 20.0
    assert lab.ok("lease", action="show")["fence"] == 1


def test_the_same_take_again_is_harmless(lab: Lab) -> None:
    lab.take(holder="ann")
    lab.clock.sleep(30)
    lab.take(holder="ann")
    assert lease(lab) == {
        "run": "run-1",
        "token": 1,
        "holder": "ann",
        "lifetime": 60.0,
        "expires_in": 60.0,
    }
    assert len(lab.journal()) == 1


def test_the_same_run_from_another_desk_waits_for_the_lease_to_run_out(lab: Lab) -> None:
    lab.take(holder="ann")
    assert lab.refused("lease", action="take", token=2, holder="bob")[0] == 5
    lab.take(token=2, holder="ann")
    assert lab.ok("lease", action="show")["fence"] == 2


def test_an_expired_lease_is_taken_by_a_higher_token_only(lab: Lab) -> None:
    lab.take()
    lab.clock.sleep(61)
    assert lease(lab) is None
    assert lab.refused("lease", action="take", run="run-2", token=1) == (6, "stale_token")
    lab.take(run="run-2", token=2)


def test_a_holder_that_slept_past_its_lease_changes_nothing(lab: Lab) -> None:
    lab.take()
    lab.clock.sleep(61)
    assert lab.refused("drain", action="on") == (6, "lease_required")
    assert lab.refused("lease", action="renew") == (6, "lease_required")
    lab.take(run="run-2", token=2)
    for action in ("renew", "release", "take"):
        assert lab.refused("lease", action=action)[0] in (5, 6)
    assert lab.refused("drain", action="on") == (6, "stale_token")
    assert lease(lab) is not None


def test_a_newer_token_without_a_lease_is_refused_too(lab: Lab) -> None:
    lab.take()
    assert lab.refused("drain", action="on", run="run-2", token=5) == (5, "lease_held")
    assert lab.refused("drain", action="on", token=5) == (5, "lease_held")
    assert lab.refused("drain", action="on", run="run-2", token=1) == (5, "lease_held")


def test_setting_the_clock_neither_kills_nor_keeps_a_lease(lab: Lab) -> None:
    lab.take()
    lab.clock.wall += 100_000
    assert lease(lab) is not None
    lab.clock.wall -= 900_000
    lab.clock.boottime += 61
    assert lease(lab) is None


def test_a_reboot_ends_a_lease_within_its_lifetime_whatever_the_clock_says(lab: Lab) -> None:
    lab.take()
    lab.clock.reboot()
    assert lease(lab) is not None
    lab.clock.wall -= 1_000_000
    lab.clock.boottime = 61
    assert lease(lab) is None


def test_a_damaged_lease_file_counts_as_none_and_the_fence_still_holds(lab: Lab) -> None:
    lab.take(token=7)
    lab.path("var/lib/backline/jukebox/lease.json").write_text("{torn")
    assert lab.refused("lease", action="take", run="run-2", token=7) == (6, "stale_token")
    lab.take(run="run-2", token=8)


def test_a_damaged_fence_stops_everything(lab: Lab) -> None:
    lab.take()
    lab.path("var/lib/backline/jukebox/fence").write_text("")
    assert lab.refused("lease", action="take", token=2) == (1, "state_damaged")
    assert lab.refused("drain", action="on") == (1, "state_damaged")


def test_apps_have_leases_of_their_own(lab: Lab) -> None:
    lab.take()
    lab.take(app="radio", run="run-2", token=1)


def test_a_lease_is_renewed_for_as_long_as_it_was_taken(lab: Lab) -> None:
    lab.take(lifetime=20)
    assert lab.ok("lease", action="renew")["lease"]["expires_in"] == 20.0
    assert lab.ok("lease", action="renew", lifetime=40)["lease"]["expires_in"] == 40.0


def test_of_many_runs_that_take_at_once_one_gets_it(lab: Lab) -> None:
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            status = 99
            try:
                lab.host.sleep = time.sleep
                status, _ = lab.call("lease", action="take", run=f"run-{number}", token=1)
            finally:
                os._exit(status)
        children.append(child)
    ended = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert ended == [0, 5, 5, 5, 5, 5]
    assert lab.ok("journal")["intact"] is True and len(lab.journal()) == 1


def test_somebody_else_frees_the_lease_of_a_dead_holder_and_is_written_down(lab: Lab) -> None:
    """`fab lock.release`: the run's own token, another actor, and no word of how the run ended."""
    lab.plant(R1)
    lab.take(holder="ann@desk", plan={"release": R1})
    lab.ok("lease", action="release", actor="bob@desk", message="her laptop is gone")
    assert lease(lab) is None and lab.ok("status")["run"]["ended"] is None
    last = lab.journal()[-1]
    assert (last["event"], last["actor"], last["message"]) == (
        "release",
        "bob@desk",
        "her laptop is gone",
    )
    # Had she only slept: her next step is refused, and her lease does not come back by itself.
    assert lab.refused("lease", action="renew") == (6, "lease_required")
    assert lab.refused("lease", action="take", holder="ann@desk") == (6, "stale_token")
    assert lab.refused("switch", release=R1, process="web") == (6, "lease_required")
    lab.take(token=2, holder="bob@desk")  # fab deploy.resume
