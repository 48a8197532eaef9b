"""Work that nobody waits for, done while others serve: for each moment of work three of rest."""

from __future__ import annotations

from .host import Host

MOMENT = 0.02
SHARE = 3.0


class Rest:
    """Called between two pieces of work, it rests if it is time to. All rests together stay below
    `most` seconds."""

    def __init__(self, host: Host, most: float = 15.0) -> None:
        self._host, self._left, self._since = host, most, host.boottime()

    def __call__(self) -> None:
        worked = self._host.boottime() - self._since
        if worked < MOMENT:
            return
        pause = min(self._left, SHARE * worked)
        if pause > 0:
            self._left -= pause
            self._host.sleep(pause)
        self._since = self._host.boottime()
