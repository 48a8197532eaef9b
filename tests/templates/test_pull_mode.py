"""The templates of the role pull_mode: whom the host believes, when it pulls, with which secrets."""

from __future__ import annotations

import json
from typing import Any

from tests.templates.test_templates import render

GIVEN: dict[str, Any] = {
    "pull_mode_repository": "ssh://git@git.example.com/fleet.git",
    "inventory_hostname": "stream1",
    "__pull_mode_venv": "/opt/backline-pull/0",
}


def settings(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render("pull_mode", "settings.json.j2", **GIVEN, **more))
    return found


def test_it_converges_this_host_alone_from_the_mirror_of_what_was_accepted() -> None:
    command = settings()["command"]
    assert command[command.index("--limit") + 1] == "stream1"
    assert command[command.index("--checkout") + 1] == "accepted"
    assert command[command.index("--url") + 1].startswith("/var/lib/backline/pull/")
    assert "--force" not in command, "it would run what could not be updated"


def test_signers_are_asked_for_when_there_are_any() -> None:
    assert settings()["verify"] is False
    assert settings(pull_mode_signers=["a@example.com ssh-ed25519 AAAA"])["verify"] is True


def test_no_secret_is_among_the_settings() -> None:
    given = settings(pull_mode_vault_password="the-password", pull_mode_deploy_key="the-key")
    assert "the-password" not in json.dumps(given) and "the-key" not in json.dumps(given)
    assert "stream1@/etc/backline/pull/vault_password" in given["command"]
    assert "StrictHostKeyChecking=yes" in given["environment"]["GIT_SSH_COMMAND"]


def test_hosts_pull_at_different_times_and_make_up_for_a_missed_one() -> None:
    timer = render("pull_mode", "backline-pull.timer.j2", **GIVEN, pull_mode_spread="2h")
    lines = timer.splitlines()
    for line in ("RandomizedDelaySec=2h", "FixedRandomDelay=yes", "Persistent=yes"):
        assert line in lines


def test_a_run_is_bounded_in_time_and_memory() -> None:
    unit = render("pull_mode", "backline-pull.service.j2", **GIVEN, pull_mode_patience=900)
    assert "TimeoutStartSec=900" in unit and "MemoryMax=1G" in unit
