"""What hosts have sent and nobody has read yet: a few hundred lines of each, or as many as were wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Condition

from backline.operations.logs.entry import Entry, read

MOST = 400
LONGEST = 1 << 20
"""Bytes of one line. What is longer is no line of a journal."""


class Feeds:
    """A queue for each host. A host whose queue is full waits, and so does its journalctl: SSH's
    window closes. `backward`: hosts send their newest line first; they are turned round at the end."""

    def __init__(self, hosts: Iterable[str], backward: bool = False) -> None:
        self.changed, self.backward = Condition(), backward
        self._held: dict[str, list[Entry]] = {}
        self._entries: dict[str, deque[Entry]] = {host: deque() for host in hosts}
        self._rest: dict[str, bytes] = {}
        self._ended: set[str] = set()
        self.heard_of: set[str] = set()
        self.cursors: dict[str, str] = {}
        self.closed = False

    def hear(self, host: str, stream: str, data: bytes) -> None:
        """Takes what a host sent, from that host's own thread; blocks while its queue is full."""
        if stream != "stdout":
            return
        *lines, rest = (self._rest.pop(host, b"") + data).split(b"\n")
        if len(rest) < LONGEST:
            self._rest[host] = rest
        found = [entry for entry in (read(host, line) for line in lines) if entry]
        with self.changed:
            self.heard_of.add(host)
            if self.backward:
                self._held.setdefault(host, []).extend(() if host in self._ended else found)
                return
            while len(self._entries[host]) >= MOST and not self.closed:
                self.changed.wait()
            self._entries[host].extend(found)
            if found:
                self.cursors[host] = found[-1].cursor
            self.changed.notify_all()

    def end(self, host: str) -> None:
        """No more comes from a host."""
        with self.changed:
            self.heard_of.add(host)
            self._ended.add(host)
            self._entries[host].extend(reversed(self._held.pop(host, [])))
            self.changed.notify_all()

    def again(self, host: str) -> None:
        """More comes from a host that had ended."""
        with self.changed:
            self._rest.pop(host, None)
            self._ended.discard(host)

    def held(self, host: str) -> int:
        """How many lines of a host wait for its end."""
        return len(self._held.get(host, ()))

    def close(self) -> None:
        """Nobody reads any more: whoever waits for room need not."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def ended(self, host: str) -> bool:
        """Whether everything a host sent was taken, and no more comes."""
        return host in self._ended and not self._entries[host]

    def head(self, host: str) -> Entry | None:
        """The next entry of a host, taken off its queue; None when none is there now."""
        with self.changed:
            queue = self._entries[host]
            if not queue:
                return None
            entry = queue.popleft()
            if len(queue) == MOST - 1 or not queue:
                self.changed.notify_all()
            return entry

    def wait(self, host: str, seconds: float) -> None:
        """Waits, at most so long, for something of a host to be there or for its end."""
        with self.changed:
            if not self._entries[host] and host not in self._ended:
                self.changed.wait(seconds)

    def take(self) -> list[Entry]:
        """Everything that is there now, of all hosts."""
        with self.changed:
            found = [entry for queue in self._entries.values() for entry in queue]
            for queue in self._entries.values():
                queue.clear()
            if found:
                self.changed.notify_all()
            return found
