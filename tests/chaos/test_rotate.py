"""New passwords and a new signing key, and nobody hears of it or has to sign in again."""

from __future__ import annotations

import time

import yaml

from backline.lab import files
from tests.live import CATALOGUE, Fleet, run


def secrets(fleet: Fleet) -> dict[str, str]:
    path = files.INVENTORY / fleet.env / "group_vars" / "all" / "secrets.yml"
    known: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return known


def test_secrets_are_rotated_without_a_failed_request(fleet: Fleet) -> None:
    listener = fleet.listener()
    before = secrets(fleet)
    run("inv", "lab.renew-secrets", "--env", fleet.env)
    after = secrets(fleet)
    changed = [name for name in before if before[name] != after[name]]
    assert len(changed) == 3
    crowd = fleet.crowd(listener, rate=20.0)
    answer = fleet.playbook("rotate_secrets", timeout=2400)
    tally = crowd.stop()
    print(f"\nrotation: {tally.requests} requests, {tally.failed} failed")
    assert not tally.failures, tally.failures
    for name in changed:
        for value in (before[name], after[name]):
            assert value not in answer.out + answer.err, f"{name} was printed"
    host = fleet.hosts("streaming")[0]
    told = fleet.on(host, "sudo cat /etc/jukebox/jukebox.env").out
    assert after["vault_jukebox_database_password"] in told
    assert before["vault_jukebox_database_password"] not in told
    status, _, kind = listener.get(f"/tracks/{CATALOGUE[0]['slug']}/stream")
    assert (status, kind) == (200, CATALOGUE[0]["mime"]), "a listener was signed out"


def test_jobs_still_reach_the_workers(fleet: Fleet) -> None:
    listener = fleet.listener()
    listener.get(f"/tracks/{CATALOGUE[0]['slug']}/stream")
    deadline = time.monotonic() + 30
    while CATALOGUE[0]["title"] not in listener.get("/plays/")[1].decode():
        assert time.monotonic() < deadline, "no play was recorded with the new password"
        time.sleep(0.5)


def test_a_second_run_finds_nothing_to_rotate(fleet: Fleet) -> None:
    answer = fleet.playbook("rotate_secrets")
    assert "nothing to rotate" in answer.out
    assert "rotation_queue" not in answer.out.split("PLAY RECAP")[1]
