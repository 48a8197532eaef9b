"""How little travels, and to eight hosts at the same time."""

from __future__ import annotations

from backline.tasks.steps import ROOT
from tests.live import Fleet
from tests.releases import build_fat
from tests.rollout.runs import QUICK, changing, fab, last_run, users

SIZE = "wide"
HOSTS = 8
BALLAST = 46
SHARE = 0.01


def shipped_at_once(fleet: Fleet) -> int:
    """Asserts that the last run sent to every host at the same time; the most bytes to any of them."""
    run = last_run(fleet)
    begun = {event["host"]: event["time"] for event in run.of("begin") if event["text"] == "ship"}
    ended = {event["host"]: event["time"] for event in run.of("ship")}
    assert set(begun) == set(ended) == set(users(fleet))
    assert max(begun.values()) < min(ended.values()), "one after the other"
    most = max(event["bytes"] for event in run.of("ship"))
    took = [ended[host] - begun[host] for host in ended]
    span = max(ended.values()) - min(begun.values())
    print(
        f"\n{most} bytes to each of {len(ended)} hosts in {span:.2f} s, {sum(took):.2f} s if in turn"
    )
    return int(most)


def test_a_changed_line_of_sixty_megabytes_is_a_small_patch(fleet: Fleet) -> None:
    """Under 1 % of the archive travels; the archive and the patch go to all hosts in parallel."""
    assert len(users(fleet)) >= HOSTS, "this needs a lab of size wide"
    fab(fleet, "deploy", "--release", build_fat(BALLAST), *QUICK, "--whole", *changing(fleet))
    assert shipped_at_once(fleet) > 55_000_000
    release = build_fat(BALLAST, line=True)
    fab(fleet, "deploy", "--release", release, *QUICK, *changing(fleet))
    size = (ROOT / "dist" / f"{release}.tar.zst").stat().st_size
    sent = shipped_at_once(fleet)
    print(f"{sent} of {size} bytes: {sent / size:.3%}")
    assert sent < SHARE * size
