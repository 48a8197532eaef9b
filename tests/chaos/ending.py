"""How an emergency of the lab is judged: by what a listener hears, not by what its page's commands say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from backline import places
from backline.errors import BacklineError
from backline.lab.listener import Listener
from backline.release import store
from tests.data import cluster
from tests.data.cluster import inside
from tests.data.remote import wait_until
from tests.live import CATALOGUE, Fleet, build, run
from tests.rollout.runs import QUICK, live

SONG = f"/tracks/{CATALOGUE[0]['slug']}/stream"
BACK_S = 180.0
PLAYED_S = 60.0


def serves(fleet: Fleet) -> None:
    """A new listener signs up, hears a song, and the play is counted: every tier took part in that."""
    found: list[Listener] = []

    def signs_up() -> bool:
        with contextlib.suppress(OSError, BacklineError):
            found.append(fleet.listener())
        return bool(found)

    wait_until("a listener signs up", BACK_S, signs_up, every=1)
    (listener,) = found
    status, _, kind = listener.get(SONG)
    assert (status, kind) == (200, CATALOGUE[0]["mime"]), "no music"
    title = CATALOGUE[0]["title"]
    wait_until(
        "the play is counted", PLAYED_S, lambda: title in listener.get("/plays/")[1].decode()
    )


@pytest.fixture(autouse=True)
def tidy(fleet: Fleet) -> Iterator[None]:
    """Before an emergency there is none, whatever other tests left; nor is there afterwards."""
    no_dead_letters(fleet)
    serves(fleet)
    yield
    run("fab", "maintenance.off", "--env", fleet.env, expect=None)
    run("fab", "workers.drain", "worker", "--undo", "--env", fleet.env, expect=None)


def answers(listener: Listener, path: str = "/") -> int:
    """The status of a page; 0 when nobody answers."""
    try:
        return listener.get(path)[0]
    except OSError:
        return 0


def release_of(fleet: Fleet) -> str:
    """The one release that every host runs."""
    (release,) = {release for found in live(fleet).values() for release in found}
    assert release, "nothing runs"
    return release


def release_here(fleet: Fleet) -> str:
    """`release_of`, after a deploy of a new one if that was built elsewhere: new hosts get it from here."""
    release = release_of(fleet)
    if release not in store.ids(places.dist()):
        release = build("1.0.0")
        run("fab", "deploy", "--env", fleet.env, "--release", release, *QUICK)
    return release


def live_somewhere(fleet: Fleet, release: str) -> bool:
    """Whether any host runs it."""
    return any(release in found for found in live(fleet).values())


def logs_in(fleet: Fleet, *hosts: str) -> None:
    """Waits until hosts that were started answer by SSH."""
    for host in hosts:
        wait_until(
            f"{host} answers",
            90,
            lambda host=host: fleet.on(host, "true", expect=None).code == 0,  # type: ignore[misc]
            every=1,
        )


def no_dead_letters(fleet: Fleet) -> None:
    """Those of other tests are trouble in the eyes of `fab broker.status`."""
    host = fleet.hosts("broker")[0]
    with contextlib.suppress(BacklineError):
        inside(fleet, host, "rabbitmqctl", "-q", "purge_queue", "-p", "jukebox", "dead")


def patronictl(fleet: Fleet, host: str, *words: str) -> str:
    return inside(fleet, host, "patronictl", "-c", "/etc/patroni/patroni.yml", *words, timeout=120)


def resumed(fleet: Fleet) -> None:
    """Nobody's maintenance stays, whatever became of a test."""
    for host in cluster.running(fleet, fleet.hosts("database"))[:1]:
        with contextlib.suppress(BacklineError):  # it is not paused
            patronictl(fleet, host, "resume", "--wait")
