"""Hosts whose hostctl is older than ours get ours before anything else is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backline import wording
from backline.errors import BacklineError
from backline.tasks.command import say

if TYPE_CHECKING:
    from pathlib import Path

    from backline.rollout.preflight import Look
    from backline.transport.fleet import SshFleet
    from backline.transport.port import HostError

SECONDS = 60.0
PROGRAM = "hostctl"


def behind(found: Mapping[str, Look | HostError]) -> list[str]:
    """The hosts whose hostctl is older than this checkout's."""
    from backline.hostctl import VERSION
    from backline.transport.port import HostError

    def is_behind(answer: Look | HostError) -> bool:
        if isinstance(answer, HostError):
            return answer.code == "old_protocol"
        theirs = _number(str(answer.facts.get("hostctl")))
        return bool(theirs) and theirs < _number(VERSION)

    return [host for host, answer in found.items() if is_behind(answer)]


def update(hosts: SshFleet, names: list[str]) -> None:
    """Puts our hostctl on these hosts; each verifies its signature first. A host that does not take
    it is only told of: whoever asks it next finds out what that means."""
    files = _signed()
    if files is None:
        return
    say(f"bringing hostctl up to date on {wording.hosts(len(names))}")

    def work(host: str) -> None:
        hosts.ship(host, files, lambda host, sent, total: None)
        hosts.call(host, "update", {}, deadline=SECONDS)

    for host, outcome in hosts.each(names, work, deadline=SECONDS * 2).items():
        if outcome.error is not None:
            say(f"{host}: hostctl stays as it is: {outcome.error.message}")


def _signed() -> tuple[Path, Path] | None:
    """Our hostctl and its signature: those in dist/, else made now if the key is here."""
    from backline import hostctl_build, places
    from backline.release import signing

    shipped = places.dist() / PROGRAM
    signature = shipped.with_name(f"{PROGRAM}.sig")
    if shipped.is_file() and signature.is_file():
        return shipped, signature
    folder = places.cache() / PROGRAM
    folder.mkdir(exist_ok=True)
    hostctl_build.write(folder / PROGRAM)
    try:
        key, made = signing.signing_key()
    except BacklineError:
        return None
    if made:  # a key that nobody trusts yet signs nothing
        return None
    return folder / PROGRAM, signing.sign_hostctl(folder / PROGRAM, key)


def _number(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        return ()
