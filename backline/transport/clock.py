"""The real clock."""

from __future__ import annotations

import time
from threading import Event


class SystemClock:
    """The machine's own time; see port.Clock."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Does nothing for a while."""
        time.sleep(seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        """Waits for the event, at most so long; True when it came."""
        return event.wait(seconds)
