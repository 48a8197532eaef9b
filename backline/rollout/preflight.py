"""What must be true of every host before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.release.model import Release
from backline.transport.port import Clock, Fleet, HostError

PROTOCOL = 2
MEBIBYTE = 1 << 20
SPARE_BYTES = 64 * MEBIBYTE
SPARE_FILES = 10_000
CLOCK_SECONDS = 5.0
DEADLINE = 25.0


@dataclass(frozen=True)
class Look:
    """One host's answers. `skew` is its clock less ours, in seconds."""

    facts: Mapping[str, Any]
    status: Mapping[str, Any]
    skew: float


def look(fleet: Fleet, hosts: Iterable[str], app: str, clock: Clock) -> dict[str, Look | HostError]:
    """Asks all hosts at once for facts and for the app's status; an error stands for its host."""

    def ask(host: str) -> Look:
        before = clock.time()
        facts = fleet.call(host, "facts", {"app": app}, deadline=DEADLINE)
        skew = float(facts["time"]) - (before + clock.time()) / 2
        if int(facts.get("protocol", 0)) != PROTOCOL:
            raise _protocol(host, facts)
        return Look(facts, facts["status"], skew)

    outcomes = fleet.each(hosts, ask, deadline=DEADLINE)
    return {host: _either(outcome.value, outcome.error) for host, outcome in outcomes.items()}


def require(found: Mapping[str, Look | HostError]) -> dict[str, Look]:
    """All answers, if every host gave one; else one BacklineError with every host's trouble."""
    errors = [answer for answer in found.values() if isinstance(answer, HostError)]
    if errors:
        raise BacklineError(
            wording.said(errors),
            hosts=[error.host for error in errors],
            state="nothing was changed on any host",
            hint=_hints(errors),
        )
    return {host: answer for host, answer in found.items() if isinstance(answer, Look)}


def check(release: Release, looks: Mapping[str, Look]) -> None:
    """Raises BacklineError naming every host that cannot take the release, and why."""
    found = {host: problems(release, look) for host, look in looks.items()}
    troubled = {host: reasons for host, reasons in found.items() if reasons}
    if troubled:
        raise BacklineError(
            wording.each((host, "; ".join(reasons)) for host, reasons in troubled.items()),
            hosts=troubled,
            state="nothing was changed on any host",
            hint="correct that, or leave these hosts out with --on",
        )


def problems(release: Release, look: Look) -> list[str]:
    """Why this host cannot take the release; an empty list when it can."""
    facts, found = look.facts, []
    if abs(look.skew) > CLOCK_SECONDS:
        found.append(f"its clock is {look.skew:+.0f} s off ours: check chrony")
    if facts.get("machine", release.architecture) != release.architecture:
        found.append(f"it is {facts['machine']}, the wheels are for {release.architecture}")
    if not str(facts.get("python", "")).startswith(f"{release.python}."):
        found.append(f"it has Python {facts.get('python')}, the release needs {release.python}")
    if release.id not in look.facts["apps"].get(release.app, {}).get("releases", []):
        archive = release.archive
        needed = archive.zst_size + 3 * archive.tar_size + SPARE_BYTES
        if facts["disk_free"] < needed:
            found.append(
                f"/srv has {facts['disk_free'] // MEBIBYTE} MiB free, "
                f"staging needs {needed // MEBIBYTE}"
            )
        if 0 < facts.get("inodes_free", 0) < SPARE_FILES + 2 * len(release.files):
            found.append(f"/srv has only {facts['inodes_free']} inodes free")
    return found


def _either(value: Look | None, error: HostError | None) -> Look | HostError:
    if error is not None:
        return error
    assert value is not None
    return value


def _protocol(host: str, facts: Mapping[str, Any]) -> HostError:
    return HostError(
        host,
        f"its hostctl speaks protocol {facts.get('protocol')}, we speak {PROTOCOL}",
        code="old_protocol" if int(facts.get("protocol") or 0) < PROTOCOL else "protocol",
        hint=f"bring it up to date: fab provision --on {host} --tags hostctl",
    )


def _hints(errors: Iterable[HostError]) -> str:
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    return "\n".join(hints) or "leave these hosts out with --on, or bring them back; then try again"
