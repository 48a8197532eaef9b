"""Reads the journals of many hosts at once and hands their lines over in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from backline.errors import BacklineError
from backline.operations.adhoc.command import FRESH_MOST, FRESH_SECONDS
from backline.operations.logs.entry import Entry
from backline.operations.logs.feeds import Feeds
from backline.operations.logs.wanted import Wanted
from backline.transport.port import Clock, HostError, Reply, Shells

WINDOW_SECONDS = 1.0
"""With `follow`, how long a line waits for older ones from other hosts."""
BEAT = 0.2
FOREVER = float("inf")
MAY_NOT = "insufficient permissions", "not seeing messages from other users"


class Journals:
    """One reading. `lost(host, why)` is called for a host that cannot be read, or no longer."""

    def __init__(
        self,
        fleet: Shells,
        clock: Clock,
        wanted: Wanted,
        lost: Callable[[str, str], None] = lambda host, why: None,
    ) -> None:
        self.fleet, self.clock, self.wanted, self.lost = fleet, clock, wanted, lost
        self.troubles: dict[str, HostError] = {}

    def read(self, hosts: Sequence[str]) -> Iterator[Entry]:
        """The lines, oldest first. Raises BacklineError at the end when hosts could not be read.

        Whoever stops reading early must close the generator: then the hosts are let go.
        """
        command = self.wanted.command()
        self._hosts, self._feeds = list(hosts), Feeds(hosts)
        self._hands = self.fleet.hands()
        try:
            self._begin(command)
            yield from self._as_they_come() if self.wanted.follow else self._in_order()
        finally:
            self._feeds.close()
            self.fleet.cut(host for host in self._hosts if not self._feeds.ended(host))
        if self.troubles:
            raise self._verdict()

    def _begin(self, command: str) -> None:
        """Asks every host; no more than so many handshakes at a time, see adhoc.command."""
        begun: dict[str, float] = {}
        for ticket, host in enumerate(self._hosts):
            while self._fresh(begun) >= FRESH_MOST:
                self._pause(BEAT / 4)
            begun[host] = self.clock.monotonic()
            self._hands.begin(ticket, host, lambda host=host: self._ask(host, command), FOREVER)  # type: ignore[misc]

    def _fresh(self, begun: dict[str, float]) -> int:
        now = self.clock.monotonic()
        return sum(
            host not in self._feeds.heard_of and now - at < FRESH_SECONDS
            for host, at in begun.items()
        )

    def _ask(self, host: str, command: str) -> Reply:
        """In a thread of its own: hears what the host sends, until it ends."""
        try:
            return self.fleet.run(
                host,
                command,
                deadline=0,
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

    def _next(self, heap: list[tuple[int, int, Entry]], number: int) -> None:
        """Puts the next line of a host on the heap; waits for it, but not for ever."""
        host, began = self._hosts[number], self.clock.monotonic()
        while not self._feeds.ended(host) and host not in self.troubles:
            entry = self._feeds.head(host)
            if entry:
                heapq.heappush(heap, (entry.time, number, entry))
                return
            self._pause(BEAT)
            if self.clock.monotonic() - began > self.wanted.silence:
                why = f"no line within {self.wanted.silence:g} s"
                self._trouble(HostError(host, why, code="deadline"))
                self.fleet.let_go(host)
        self._collect()

    def _as_they_come(self) -> Iterator[Entry]:
        """Lines that came a moment ago, the older ones first."""
        heap: list[tuple[int, int, float, Entry]] = []
        count = 0
        while heap or not self._feeds.all_ended():
            now = self.clock.monotonic()
            for entry in self._feeds.take():
                count += 1
                heapq.heappush(heap, (entry.time, count, now + WINDOW_SECONDS, entry))
            while heap and (heap[0][2] <= now or self._feeds.all_ended()):
                yield heapq.heappop(heap)[3]
            self._pause(BEAT)
        self._collect()

    def _pause(self, seconds: float) -> None:
        """Waits for anything new, and notices hosts that have ended."""
        with self._feeds.changed:
            self._feeds.changed.wait(seconds)
        self._collect()

    def _collect(self) -> None:
        for ended in self._hands.wait(0):
            host = self._hosts[ended.ticket]
            self._feeds.end(host)
            if isinstance(ended.error, HostError):
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
            self._trouble(HostError(host, said.splitlines()[-1], code="journalctl"))
        elif self.wanted.follow:
            self._trouble(HostError(host, "its journal ended", code="ended"))

    def _trouble(self, error: HostError) -> None:
        if error.host not in self.troubles:
            self.troubles[error.host] = error
            self.lost(error.host, error.message)

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
