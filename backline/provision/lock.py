"""Keeps two runs on the same environment from the same checkout apart, and tells of one that was cut off.

The kernel holds the lock (flock) for as long as the process lives: a holder that died blocks nobody. A run
that changes hosts is written down beside it until it ends, so that the next one, `fab status` and
`fab doctor` can tell of one that did not come to its end.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from backline.errors import BacklineError, Exit


@dataclass(frozen=True)
class Begun:
    """A run that changes hosts. `command` is what was typed, `since` when, in UTC. `tags`: its part of the
    playbook, empty for all of it."""

    run: str
    actor: str
    since: str
    command: str
    playbook: str = ""
    tags: str = ""
    hosts: tuple[str, ...] = ()

    def covers(self, other: Begun) -> bool:
        """True when all that `other` left undone is done, once this one has ended well."""
        same = other.playbook in ("", self.playbook) and self.tags in ("", other.tags)
        return same and set(other.hosts) <= set(self.hosts)

    def __str__(self) -> str:
        return f"`{self.command}` by {self.actor}, begun {self.since}, was cut off"


class Held:
    """The lock, while it is ours. `before`: the runs that did not come to their end, the newest last."""

    def __init__(self, folder: Path, env: str) -> None:
        self.before = unended(folder, env)
        self._path = _begun(folder, env)

    def begin(self, begun: Begun) -> None:
        """From here on hosts are changed."""
        self._write([*self.before, begun])

    def end(self, begun: Begun, *, well: bool, lost: Sequence[str] = ()) -> None:
        """All that was to be done is done (`well`), or has failed and said so; but not on hosts that were
        `lost` in the middle of it."""
        left = [other for other in self.before if not (well and begun.covers(other))]
        self._write([*left, *([replace(begun, hosts=tuple(lost))] if lost else [])])

    def _write(self, runs: list[Begun]) -> None:
        new = self._path.with_suffix(".new")
        new.write_text("".join(json.dumps(asdict(one)) + "\n" for one in runs), encoding="utf-8")
        new.replace(self._path)


@contextmanager
def held(folder: Path, env: str, actor: str, since: str) -> Iterator[Held]:
    """Holds environment `env`'s lock; BacklineError (5) naming the holder when another has it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{env}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BacklineError(
                f"{env} is being provisioned already: {_holder(path)}",
                state="nothing was changed by this run",
                hint="wait for it to end, or end that process",
                exit_code=Exit.LEASE_HELD,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, json.dumps({"pid": os.getpid(), "actor": actor, "since": since}).encode(), 0
        )
        yield Held(folder, env)
    finally:
        os.close(descriptor)


def unended(folder: Path, env: str) -> list[Begun]:
    """Runs that changed hosts from this checkout and did not come to their end; the last may be at work."""
    try:
        lines = _begun(folder, env).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [begun for line in lines if (begun := _read(line))]


def _read(line: str) -> Begun | None:
    try:
        told = json.loads(line)
        return Begun(**{**told, "hosts": tuple(told.get("hosts", ()))})
    except (ValueError, TypeError, AttributeError):
        return None


def cut_off(folder: Path, env: str) -> list[Begun]:
    """Runs that changed hosts from this checkout and were cut off, the newest last; empty while one is at
    work."""
    return [] if at_work(folder, env) else unended(folder, env)


def at_work(folder: Path, env: str) -> bool:
    """Whether a run from this checkout has the environment's lock just now."""
    try:
        with (folder / f"{env}.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _begun(folder: Path, env: str) -> Path:
    return folder / f"{env}.begun"


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"by {told['actor']}, process {told['pid']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by a process that has not said its name yet"
