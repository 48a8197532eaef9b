"""Faults that the lab can make, each undone by the end of its `with`, and when to make them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backline import places
from backline.errors import BacklineError
from backline.lab.machine import podman
from backline.transport import runlog
from tests.live import Fleet

Event = dict[str, Any]


@contextmanager
def frozen(fleet: Fleet, host: str) -> Iterator[None]:
    """Every process of the host stands still."""
    for last in (False, False, True):  # runc gives up on a host that starts programs just then
        try:
            podman("pause", fleet.container(host))
            break
        except BacklineError:
            if last:
                raise
    try:
        yield
    finally:
        podman("unpause", fleet.container(host))


@contextmanager
def cut(fleet: Fleet, host: str) -> Iterator[None]:
    """No packet reaches the host's sshd any more, and none leaves it; listeners still reach the host."""
    inside = ("exec", fleet.container(host), "nft")
    ways = [
        f"chain {way} {{\ntype filter hook {way} priority -300\ntcp {port} 22 drop\n}}"
        for way, port in (("input", "dport"), ("output", "sport"))
    ]
    podman(*inside, "table inet cut {\n" + "\n".join(ways) + "\n}")  # at once
    try:
        yield
    finally:
        podman(*inside, "delete table inet cut")


@contextmanager
def full_disk(fleet: Fleet, host: str, spare: int) -> Iterator[None]:
    """The host's releases lie on a disk with `spare` MB left."""
    folder = "/srv/jukebox/releases"
    inside = ("exec", fleet.container(host), "sh", "-ec")
    podman(
        *inside,
        f"rm -rf /var/tmp/kept; cp -a {folder} /var/tmp/kept; "
        f"size=$(( $(du -sm /var/tmp/kept | cut -f1) + {spare} )); "
        f"mount -t tmpfs -o size=${{size}}m,mode=755 tmpfs {folder}; "
        f"cp -a /var/tmp/kept/. {folder}/; rm -rf /var/tmp/kept",
    )
    try:
        yield
    finally:
        podman(*inside, f"umount -l {folder}")


class Journal:
    """The journal of the run that begins next, while it grows."""

    def __init__(self, fleet: Fleet) -> None:
        self._folder = places.runs(fleet.env)
        self._known = set(self._folder.iterdir()) if self._folder.is_dir() else set()

    def events(self) -> list[Event]:
        """What it holds by now."""
        new = set(self._folder.iterdir()) - self._known if self._folder.is_dir() else set()
        if not new:
            return []
        return [dict(entry) for entry in runlog.read(new.pop() / "journal.jsonl").entries]

    def wait(self, fits: Callable[[Event], bool], limit: float = 120.0) -> Event:
        """The first event that fits, as soon as it is there."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            for event in self.events():
                if fits(event):
                    return event
            time.sleep(0.02)
        raise AssertionError(f"no such event within {limit:.0f} s")


def begins(what: str, host: str) -> Callable[[Event], bool]:
    """Whether an event is the beginning of `what` (stage, start, switch …) on `host`."""

    def fits(event: Event) -> bool:
        same = event.get("host") == host and event.get("text") == what
        return event["event"] == "begin" and same

    return fits


def soaks(event: Event) -> bool:
    """Whether the run watches now."""
    return event["event"] == "phase" and event.get("phase") == "soak"
