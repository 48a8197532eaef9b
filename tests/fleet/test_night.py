"""The night that docs/tutorial tells of, for real: its commands in its order, and the troubles between.

Each command has to end and to say what the page shows (tests/story.py reads it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from backline.tasks.steps import ROOT
from tests import story
from tests.fleet.conftest import ENV
from tests.live import Fleet, build, run
from tests.releases import build_kind

PAGE = ROOT / "docs/tutorial/one-night-on-call.md"
STEPS = story.read(PAGE.read_text(encoding="utf-8"))
WEB = "'jukebox-web@*.service'"
SPOILED = "/srv/jukebox/shared/spoiled"
QUICK = ("--soak", "0")


def web_dies(fleet: Fleet) -> None:
    """Killed as often as it is started, until systemd does not start it any more."""
    states = f'"$(systemctl is-active {WEB} | sort -u)"'
    kill = f"sudo systemctl kill --signal=KILL {WEB} 2>/dev/null"
    fleet.on(
        "stream1",
        f"for n in $(seq 60); do {kill}; sleep 1; [ {states} = failed ] && exit; done; exit 1",
    )


def reboot_due(fleet: Fleet) -> None:
    """As an upgraded kernel asks for one."""
    fleet.on("stream2", "sudo touch /run/reboot-required")


def bad_release(fleet: Fleet) -> None:
    """It goes out well, and breaks afterwards, on every host at once."""
    words = ("--release", build_kind("spoils"), "--message", "covers in three sizes", *QUICK)
    run("fab", "deploy", "--env", ENV, *words)
    for host in fleet.hosts("streaming"):
        fleet.on(host, f"sudo touch {SPOILED}")


TROUBLES: dict[str, Callable[[Fleet], None]] = {
    "the web of stream1 dies until systemd gives it up": web_dies,
    "stream2 waits for a reboot": reboot_due,
    "a release that was deployed an hour ago turns out to be bad": bad_release,
}


@pytest.fixture(scope="module")
def evening(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet as it is before anybody sleeps: one release, and one before it to go back to."""
    rows = run("fab", "status", "--env", ENV, "--json", expect=None).lines
    if not any(row.get("current") for row in rows):
        fleet.playbook("site")
        run("fab", "deploy", "--env", ENV, "--release", build("1.0.0"), *QUICK)
    yield fleet
    for host in fleet.hosts("streaming"):
        fleet.on(host, f"sudo rm -f {SPOILED} /run/reboot-required", expect=None)


def test_the_night_goes_as_it_is_told(evening: Fleet) -> None:
    whole = len(evening.hosts("database")) >= 3
    began = time.monotonic()
    for step in STEPS:
        for trouble in step.troubles:
            TROUBLES[trouble](evening)
        if step.full and not whole:
            continue
        words = [ENV if word == "lab" else word for word in step.words]
        answer = run(*words, expect=None)
        wrong = step.wrong(answer.code, answer.out + answer.err)
        assert not wrong, f"{' '.join(words)}: {wrong}\n{answer.out[-3000:]}\n{answer.err[-3000:]}"
    print(f"\nthe night took {time.monotonic() - began:.0f} s")
