"""The runbooks' first looks on a fleet that is well: every command works, whatever it has to say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import runbooks
from tests.fleet.conftest import ENV
from tests.fleet.test_night import evening
from tests.live import Fleet, run

__all__ = ["evening"]

AT_ONCE = 2
NOT_THERE = (126, 127)
"""What a shell says of a program that is not installed, or is none."""
OF_A_PACKAGE = ("iostat", "certbot")
"""The page says which package has it, or that it is there with ACME alone."""


def names(fleet: Fleet) -> dict[str, str]:
    """What stands for what in the pages; a kind of host that this fleet lacks is left out."""
    groups = {
        "HOST": "streaming", "STREAM": "streaming", "EDGE": "edge", "DB": "database",
        "PRIMARY": "database", "BROKER": "broker", "WORKER": "worker", "BACKUP": "backup",
        "MONITOR": "monitor",
    }  # fmt: skip
    hosts = {name: fleet.hosts(group) for name, group in groups.items()}
    first = {name: found[0] for name, found in hosts.items() if found}
    more = {"ENV": ENV, "UNIT": "nginx", "VHOST": "jukebox", "DATABASE": "jukebox"}
    return {**first, **more, "OTHER": first["BROKER"]}


def trouble(words: tuple[str, ...]) -> str:
    """What is wrong with a command; nothing when it did what it is for."""
    task = words[1]
    answer = run(*words, *(["--json"] if task == "run" else []), expect=None, timeout=120)
    if "Traceback" in answer.err or answer.code not in (0, 1):
        return f"ended with {answer.code}: {answer.err[-1000:]}"
    if task in ("logs", "db.psql", "db.slow", "hosts.list", "audit") and answer.code:
        return answer.err[-1000:]
    if task == "run" and not words[2].startswith(OF_A_PACKAGE):
        results = [line for line in answer.lines if line["event"] == "result"]
        bad = [
            line
            for line in results
            if line["code"] is None
            or line["code"] in NOT_THERE
            or "not found" in line["stderr"].replace("could not be found", "")
        ]
        return "" if results and not bad else f"{bad}"
    return ""


def test_every_first_look_works(evening: Fleet) -> None:
    commands = runbooks.looks(names(evening))
    assert len(commands) > 60
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = dict(zip(commands, pool.map(trouble, commands), strict=True))
    wrong = {" ".join(words): f"{commands[words]}: {why}" for words, why in said.items() if why}
    if wrong:
        pytest.fail("\n".join(f"{words}\n    {why}" for words, why in wrong.items()))
