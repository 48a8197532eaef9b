"""Reads the journals of many hosts at once and hands their lines over in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from backline.errors import BacklineError
from backline.operations.adhoc.command import FRESH_MOST, FRESH_SECONDS
from backline.operations.logs.entry import Entry
from backline.operations.logs.feeds import Feeds
from backline.operations.logs.wanted import Wanted
from backline.transport.port import Clock, DeadlinePassed, HostError, Reply, Shells, Unreachable

WINDOW_SECONDS = 1.0
"""With `follow`, how long a line waits for older ones from other hosts."""
BEAT = 0.2
AGAIN_SECONDS = 5.0
"""With `follow`, a host that was lost (it reboots) is asked again so often, from where it stopped."""
STRETCH_SECONDS = 120.0
"""With `follow`, a host is asked for so long, then for what comes after that: sshd does not notice that
we sleep while it has something to send, and the host would follow its journal for nobody."""
CLOCKS_APART_SECONDS = 5.0
"""A host whose clock is so far behind ours misses no line when it is asked for those since some time."""
FOREVER = float("inf")
MAY_NOT = "insufficient permissions", "not seeing messages from other users"


class Journals:
    """One reading. `told(host, what)` is called for a host that cannot be read, or no longer, or again."""

    def __init__(
        self,
        fleet: Shells,
        clock: Clock,
        wanted: Wanted,
        told: Callable[[str, str], None] = lambda host, what: None,
    ) -> None:
        self.fleet, self.clock, self.wanted, self.told = fleet, clock, wanted, told
        self.troubles: dict[str, HostError] = {}
        self._asked: set[str] = set()
        self._again: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self._there: dict[str, float] = {}
        """Hosts that were there, and from when on each is asked while no line of it was had; 0.0: as at
        first."""
        self._away: set[str] = set()

    def read(self, hosts: Sequence[str]) -> Iterator[Entry]:
        """The lines, oldest first. Raises BacklineError at the end when hosts could not be read.

        Whoever stops reading early must close the generator: then the hosts are let go.
        """
        self.wanted.check()
        self._hosts, self._feeds = list(hosts), Feeds(hosts, self.wanted.backward)
        self._hands = self.fleet.hands()
        try:
            self._begin()
            yield from self._as_they_come() if self.wanted.follow else self._in_order()
        finally:
            self._feeds.close()
            self.fleet.cut(host for host in self._hosts if not self._feeds.ended(host))
        if self.troubles:
            raise self._verdict()

    def _begin(self) -> None:
        """Asks every host; no more than so many handshakes at a time, see adhoc.command."""
        begun: dict[str, float] = {}
        for host in self._hosts:
            while self._fresh(begun) >= FRESH_MOST:
                self._pause(BEAT / 4)
            begun[host] = self.clock.monotonic()
            self._ask(host)

    def _fresh(self, begun: dict[str, float]) -> int:
        now = self.clock.monotonic()
        return sum(
            host not in self._feeds.heard_of and now - at < FRESH_SECONDS
            for host, at in begun.items()
        )

    def _ask(self, host: str) -> None:
        cursor, later = self._feeds.cursors.get(host, ""), self._there.get(host, 0.0)
        command = self.wanted.command(cursor, later)
        self._begun[host] = self.clock.time() - CLOCKS_APART_SECONDS
        ticket = self._hosts.index(host)
        self._asked.add(host)
        self._hands.begin(ticket, host, lambda: self._hear(host, command), FOREVER)

    def _hear(self, host: str, command: str) -> Reply:
        """In a thread of its own: hears what the host sends, until it ends."""
        try:
            return self.fleet.run(
                host,
                command,
                deadline=STRETCH_SECONDS if self.wanted.follow else 0,
                heard=lambda stream, data: self._feeds.hear(host, stream, data),
            )
        finally:
            self._feeds.end(host)

    def _in_order(self) -> Iterator[Entry]:
        """A merge of streams that are each in order: the oldest of all hosts' next lines is next."""
        heap: list[tuple[int, int, Entry]] = []
        for number in range(len(self._hosts)):
            self._next(heap, number)
        while heap:
            _, number, entry = heapq.heappop(heap)
            yield entry
            self._next(heap, number)
        while (
            self._asked - self.troubles.keys()
        ):  # how they ended is a moment behind their last line
            self._collect(BEAT)

    def _next(self, heap: list[tuple[int, int, Entry]], number: int) -> None:
        """Puts the next line of a host on the heap; waits for it, but not for ever."""
        host, began, held = self._hosts[number], self.clock.monotonic(), 0
        while not self._feeds.ended(host):
            entry = self._feeds.head(host)
            if entry:
                heapq.heappush(heap, (entry.time, number, entry))
                return
            self._feeds.wait(host, BEAT)
            self._collect()
            if self._feeds.held(host) > held:
                began, held = self.clock.monotonic(), self._feeds.held(host)
            if self.clock.monotonic() - began > self.wanted.silence:
                why = f"no line within {self.wanted.silence:g} s"
                self._trouble(HostError(host, why, code="deadline"))
                self._feeds.end(host)
                self.fleet.let_go(host)

    def _as_they_come(self) -> Iterator[Entry]:
        """Lines that came a moment ago, the older ones first."""
        heap: list[tuple[int, int, float, Entry]] = []
        count = 0
        while heap or self._again or self._asked:
            now = self.clock.monotonic()
            self._try_again(now)
            for entry in self._feeds.take():
                self._back(entry.host)
                count += 1
                heapq.heappush(heap, (entry.time, count, now + WINDOW_SECONDS, entry))
            while heap and (heap[0][2] <= now or not self._asked):
                yield heapq.heappop(heap)[3]
            self._pause(BEAT)

    def _try_again(self, now: float) -> None:
        for host in [host for host, when in self._again.items() if when <= now]:
            del self._again[host]
            self._feeds.again(host)
            self._ask(host)

    def _back(self, host: str) -> None:
        if host in self._away:
            self._away.discard(host)
            self.told(host, "is back")

    def _pause(self, seconds: float) -> None:
        """Waits for anything new, and notices hosts that have ended."""
        with self._feeds.changed:
            self._feeds.changed.wait(seconds)
        self._collect()

    def _collect(self, seconds: float = 0.0) -> None:
        for ended in self._hands.wait(seconds):
            host = self._hosts[ended.ticket]
            self._asked.discard(host)
            self._feeds.end(host)
            if isinstance(ended.error, DeadlinePassed):  # as it was asked to
                self._there[host] = self._begun[host]
                self._back(host)
                self._again[host] = 0.0
            elif isinstance(ended.error, HostError):
                self._trouble(ended.error)
            elif ended.error is not None:
                raise ended.error
            else:
                self._judge(host, ended.value)

    def _judge(self, host: str, reply: Reply) -> None:
        """journalctl ends with 1 when nothing fits --grep too, and then says nothing about it."""
        said = reply.stderr.decode(errors="replace").strip()
        if any(words in said for words in MAY_NOT):
            hint = "the deploy user belongs into the group systemd-journal: fab provision --on "
            error = HostError(host, "may not read the journal", code="permission", hint=hint + host)
            self._trouble(error)
        elif reply.code and said:
            code = "journalctl" if 0 < reply.code < 128 else "ended"  # by a signal: it goes down
            self._trouble(HostError(host, said.splitlines()[-1], code=code))
        elif self.wanted.follow:
            self._trouble(HostError(host, "its journal ended", code="ended"))

    def _trouble(self, error: HostError) -> None:
        host = error.host
        if error.code == "ended" or (isinstance(error, Unreachable) and error.sent):
            self._there.setdefault(host, 0.0 if self.wanted.since else self._begun[host])
        if self.wanted.follow and (host in self._there or self._feeds.cursors.get(host)):
            self._again[host] = self.clock.monotonic() + AGAIN_SECONDS
            if host not in self._away:
                self._away.add(host)
                self.told(host, f"{error.message}; it is asked again every {AGAIN_SECONDS:g} s")
        elif host not in self.troubles:
            self.troubles[host] = error
            self.told(host, error.message)

    def _verdict(self) -> BacklineError:
        reasons = sorted({error.message for error in self.troubles.values()})
        more = f" and {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
        return BacklineError(
            f"{len(self.troubles)} of {len(self._hosts)} journals could not be read: "
            f"{reasons[0]}{more}",
            hosts=[host for host in self._hosts if host in self.troubles],
            state="the lines of the other hosts are complete",
            hint=next((error.hint for error in self.troubles.values() if error.hint), ""),
        )
