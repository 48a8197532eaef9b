"""What is decided before anything happens: which release to go back to, and who may take one."""

from __future__ import annotations

from typing import Any

import pytest
from test_engine import release

from backline.errors import BacklineError
from backline.rollout import choices, planner, preflight
from backline.rollout.preflight import Look

A, B, C = (f"2026010{day}T000000Z-000000{day}" for day in (1, 2, 3))


def status(current: str | None, good: list[str], others: tuple[str, ...] = ()) -> dict[str, Any]:
    releases = {**dict.fromkeys(others, "staged"), **dict.fromkeys(good, "good")}
    return {
        "current": current,
        "good": good,
        "releases": [
            {"id": name, "state": state, "version": "v"} for name, state in sorted(releases.items())
        ],
        "processes": {"web": {"kind": "http", "live": current, "instances": []}},
    }


@pytest.mark.parametrize(
    ("current", "good", "expected"),
    [
        (C, [A, B, C], B),
        (B, [A, B], A),
        (B, [A, C, B], C),  # an older release deployed later: the order of marking counts
        (C, [A, B], B),  # the live one was never marked
        (None, [A], A),
    ],
)
def test_rollback_goes_to_the_last_good_one_before(
    current: str, good: list[str], expected: str
) -> None:
    found = choices.choose_rollback({"h": status(current, good, (C,) if C not in good else ())})
    assert found == expected


def test_rollback_takes_only_what_every_host_calls_good() -> None:
    fleet = {"h1": status(C, [A, B, C]), "h2": status(C, [A, C], (B,))}
    assert choices.choose_rollback(fleet) == A


@pytest.mark.parametrize("good", [[], [C]])
def test_without_an_earlier_good_release_rollback_asks_for_one(good: list[str]) -> None:
    with pytest.raises(BacklineError, match="no earlier release"):
        choices.choose_rollback({"h": status(C, good, (A, C))})


def test_rollback_to_a_release_that_a_host_lacks_names_the_host() -> None:
    with pytest.raises(BacklineError) as raised:
        planner.rollback("app", A, {"h1": status(B, [A, B]), "h2": status(B, [B])})
    assert raised.value.hosts == ("h2",)
    assert f"fab deploy --release {A}" in raised.value.hint


def test_hosts_of_a_release_are_its_groups_within_the_selection() -> None:
    groups = {"streaming": ("s1", "s2"), "worker": ("w1",)}
    assert planner.hosts_of(release(), groups, ["db1", "s2", "w1"]) == ["s2", "w1"]
    with pytest.raises(BacklineError, match="none of the selected hosts"):
        planner.hosts_of(release(), groups, ["db1"])
    with pytest.raises(BacklineError, match="group worker, which this environment lacks"):
        planner.hosts_of(release(), {"streaming": ("s1",)}, ["s1"])


def test_a_plan_is_named_by_its_content() -> None:
    groups = {"streaming": ("h",), "worker": ()}
    first = planner.deploy(release(), groups, {"h": status(A, [A])})
    again = planner.deploy(release(), groups, {"h": status(A, [A])})
    other = planner.deploy(release(), groups, {"h": status(B, [B])})
    assert first.digest == again.digest != other.digest


GOOD = {
    "machine": "x86_64",
    "python": "3.11.2",
    "disk_free": 10**10,
    "inodes_free": 10**6,
    "apps": {"jukebox": {"releases": []}},
}


@pytest.mark.parametrize(
    ("facts", "skew", "says"),
    [
        ({}, 0.2, None),
        ({}, 9.0, "its clock is +9 s off"),
        ({"machine": "aarch64"}, 0, "it is aarch64, the wheels are for x86_64"),
        ({"python": "3.9.2"}, 0, "it has Python 3.9.2, the release needs 3.11"),
        ({"python": "3.1.1"}, 0, "it has Python 3.1.1"),
        ({"disk_free": 10**6}, 0, "/srv has 0 MiB free"),
        ({"inodes_free": 50}, 0, "only 50 inodes"),
        ({"inodes_free": 0}, 0, None),  # btrfs does not count them
    ],
)
def test_preflight_names_what_is_wrong(facts: dict[str, Any], skew: float, says: str) -> None:
    found = preflight.problems(release(), Look({**GOOD, **facts}, {}, skew))
    if says is None:
        assert found == []
    else:
        assert len(found) == 1 and says in found[0]


def test_a_host_that_has_the_release_needs_no_room_for_it() -> None:
    facts = {**GOOD, "disk_free": 0, "apps": {"jukebox": {"releases": [release().id]}}}
    assert preflight.problems(release(), Look(facts, {}, 0)) == []
