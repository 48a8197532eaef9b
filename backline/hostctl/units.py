"""systemd, as far as hostctl needs it: instances of a process's unit, one per release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from . import files
from .errors import HostctlError
from .host import Host
from .settings import Process

PROPERTIES = "Id,LoadState,ActiveState,SubState,MainPID,NRestarts,Result,ActiveEnterTimestamp,Job"
WANTS = "/etc/systemd/system"
POLL = 0.1


class Instance(NamedTuple):
    """One instance of a unit. `since` is epoch seconds, `pid` 0 when nothing runs."""

    unit: str
    release: str
    loaded: bool
    active: str
    sub: str
    pid: int
    restarts: int
    result: str
    since: float | None
    job: bool

    @property
    def running(self) -> bool:
        """Up and, as far as systemd knows, ready."""
        return self.active == "active"

    @property
    def stopped(self) -> bool:
        """Not running, and nothing is about to change that."""
        return self.active in ("inactive", "failed") and not self.job

    @property
    def starting(self) -> bool:
        """Somebody ordered its start, and it is not ready yet."""
        return self.active == "activating" and not self.crashing

    @property
    def stopping(self) -> bool:
        """Somebody ordered its stop: one that crashed has no job while it ends."""
        return self.active == "deactivating" and self.job

    @property
    def crashing(self) -> bool:
        """Between two automatic restarts."""
        return self.sub == "auto-restart"


def name(process: Process, release: str) -> str:
    """The unit of a release of a process: jukebox-web@20261122T190500Z-1a2b3c4.service."""
    return process.unit.replace("@.service", f"@{release}.service")


def show(host: Host, process: Process, release: str) -> Instance:
    """One instance, loaded or not."""
    found = list(_show(host, name(process, release)))
    if not found:
        raise HostctlError("systemd_failed", f"systemd says nothing of {name(process, release)}")
    return found[0]


def instances(host: Host, process: Process) -> list[Instance]:
    """Every instance that systemd has in memory and that is not simply off."""
    found = _show(host, name(process, "*"), "--all")
    return [entry for entry in found if entry.active != "inactive" or entry.job]


def _show(host: Host, pattern: str, *options: str) -> Iterator[Instance]:
    argv = ["systemctl", "show", "--timestamp=unix", f"--property={PROPERTIES}", *options]
    ended = host.run([*argv, pattern], timeout=20)
    if ended.status != 0:
        raise HostctlError("systemd_failed", f"systemctl show {pattern}: {ended.err.strip()}")
    for block in ended.out.strip().split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            yield _instance(values)


def _instance(values: dict[str, str]) -> Instance:
    since = values.get("ActiveEnterTimestamp", "").lstrip("@")
    return Instance(
        unit=values["Id"],
        release=values["Id"].rpartition("@")[2].removesuffix(".service"),
        loaded=values.get("LoadState") == "loaded",
        active=values.get("ActiveState", "unknown"),
        sub=values.get("SubState", ""),
        pid=int(values.get("MainPID") or 0),
        restarts=int(values.get("NRestarts") or 0),
        result=values.get("Result", ""),
        since=float(since) if since.replace(".", "").isdecimal() and float(since) > 0 else None,
        job=values.get("Job", "0") not in ("", "0"),
    )


def order(host: Host, verb: str, *arguments: str) -> None:
    """`systemctl VERB ARGUMENTS`. Raises `HostctlError` (systemd_failed) when it says no."""
    ended = host.run(["systemctl", verb, *arguments], timeout=30)
    if ended.status != 0:
        said = " ".join((ended.err or ended.out).split())[:300] or "no answer within 30 s"
        raise HostctlError(
            "systemd_failed",
            f"systemctl {verb} {' '.join(arguments)}: {said}",
            "look at `systemctl status` and `journalctl -xe` on the host",
        )


def enable_only(host: Host, process: Process, release: str) -> None:
    """Make `release` the one instance of the process that a reboot starts."""
    wanted = name(process, release)
    enabled = enabled_units(host, process)
    if wanted not in enabled:
        order(host, "enable", "--no-reload", "--quiet", wanted)
    for other in sorted(enabled - {wanted}):
        order(host, "disable", "--no-reload", "--quiet", other)
    files.fsync_folder(host.path(WANTS))


def enabled_units(host: Host, process: Process) -> set[str]:
    """The instances that a reboot starts, read from the links themselves."""
    pattern = name(process, "*")
    return {link.name for link in host.path(WANTS).glob(f"*.wants/{pattern}")}


def children(host: Host, pid: int) -> set[int]:
    """The processes that process `pid` has started and that still run; none where /proc is silent."""
    path = host.path(f"/proc/{pid}/task/{pid}/children")
    try:
        return {int(word) for word in path.read_text().split()}
    except (OSError, ValueError):
        return set()


def log_tail(host: Host, unit: str, lines: int = 6) -> str:
    """The end of a unit's log, for people."""
    argv = ["journalctl", "--unit", unit, "--lines", str(lines), "--no-pager", "--output", "cat"]
    return host.run(argv, timeout=10).out.strip()[-3000:]
