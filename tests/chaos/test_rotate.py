"""New passwords and a new signing key, and nobody hears of it or has to sign in again."""

from __future__ import annotations

import threading
import time
from collections import Counter

import yaml

from backline.lab import files
from backline.lab.listener import Listener
from tests.live import CATALOGUE, Fleet, run

SONG = f"/tracks/{CATALOGUE[0]['slug']}/stream"


class Browser:
    """Hears a song in pieces, one after the other, and takes the cookies that it is given.

    Django gives a session another ID when it was signed with the old key: a client that goes on with
    the old cookie, as the crowd does, is not known any more.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.answers: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> Counter[str]:
        self._over.set()
        self._thread.join(30)
        return self.answers

    def _run(self) -> None:
        while not self._over.wait(0.2):
            try:
                status, _, _ = self.listener.get(SONG, {"Range": "bytes=1000-9999"})
            except OSError as error:
                self.answers[type(error).__name__] += 1
            else:
                self.answers[str(status)] += 1


def secrets(fleet: Fleet) -> dict[str, str]:
    path = files.INVENTORY / fleet.env / "group_vars" / "all" / "secrets.yml"
    known: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return known


def left_by_rotation(fleet: Fleet) -> list[str]:
    """The hosts of the application that it is not over for."""
    looks = "test -e /var/lib/backline/rotation || test -e /run/backline/drain"
    hosts = [*fleet.hosts("streaming"), *fleet.hosts("worker")]
    return [host for host in hosts if fleet.on(host, looks, expect=None).code == 0]


def test_secrets_are_rotated_without_a_failed_request(fleet: Fleet) -> None:
    listener = fleet.listener()
    before = secrets(fleet)
    run("inv", "lab.renew-secrets", "--env", fleet.env)
    after = secrets(fleet)
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 3
    browser, crowd = Browser(listener), fleet.crowd(fleet.listener(), rate=20.0)
    answer = fleet.playbook("rotate_secrets", timeout=2400)
    tally, heard = crowd.stop(), browser.close()
    failures = {what: count for what, count in tally.failures.items() if what != f"{SONG}: 401"}
    print(
        f"\nrotation: {tally.requests} requests, {failures} failed; a browser heard {dict(heard)}"
    )
    assert not failures
    assert set(heard) == {"206"}, heard
    for name in changed:
        for value in (before[name], after[name]):
            assert value not in answer.out + answer.err, f"{name} was printed"
    host = fleet.hosts("streaming")[0]
    told = fleet.on(host, "sudo cat /etc/jukebox/jukebox.env").out
    assert after["vault_jukebox_database_password"] in told
    assert before["vault_jukebox_database_password"] not in told
    assert left_by_rotation(fleet) == []
    status, _, kind = listener.get(SONG)
    assert (status, kind) == (200, CATALOGUE[0]["mime"]), "a listener was signed out"


def test_jobs_still_reach_the_workers(fleet: Fleet) -> None:
    listener = fleet.listener()
    listener.get(SONG)
    deadline = time.monotonic() + 30
    while CATALOGUE[0]["title"] not in listener.get("/plays/")[1].decode():
        assert time.monotonic() < deadline, "no play was recorded with the new password"
        time.sleep(0.5)


def test_a_second_run_finds_nothing_to_rotate(fleet: Fleet) -> None:
    answer = fleet.playbook("rotate_secrets")
    assert "nothing to rotate" in answer.out
    assert "rotation_queue" not in answer.out.split("PLAY RECAP")[1]


def test_a_run_that_was_cut_off_at_the_last_host_is_brought_to_its_end(fleet: Fleet) -> None:
    """Every host has its new values by then: what is left is a drained host, bridge users, the proof."""
    last = fleet.hosts("streaming")[-1]
    mark = "echo rotate-cut-off | sudo tee /var/lib/backline/rotation /run/backline/drain"
    fleet.on(last, mark)
    answer = fleet.playbook("rotate_secrets", timeout=2400)
    assert "nothing to rotate" not in answer.out
    assert left_by_rotation(fleet) == []
    query = "select count(*) from pg_roles where rolname like '%_rotation'"
    host = fleet.hosts("database")[0]
    assert fleet.on(host, f'sudo psql -U postgres -Atc "{query}"').out.split() == ["0"]
