"""Work on many hosts at once: so many at a time, each with a deadline of its own.

Fabric's ThreadingGroup starts a thread per host without a limit and joins them without a timeout, so
that one hung host holds up everybody. Here a host that passes its deadline is reported as unreachable,
its place goes to the next one, and its thread (a daemon) is left to end by itself.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from backline.transport.port import HostError, Outcome, Unreachable

T = TypeVar("T")
WIDTH = 32


def each(
    hosts: Iterable[str],
    work: Callable[[str], T],
    *,
    deadline: float,
    width: int = WIDTH,
    done: Callable[[str, Outcome[T]], None] | None = None,
    abandon: Callable[[str], None] = lambda host: None,
) -> dict[str, Outcome[T]]:
    """Runs `work(host)` for every host, at most `width` at once; returns outcomes in the hosts' order.

    A host has `deadline` seconds from its own start. `done(host, outcome)` is called in this thread
    as hosts end; `abandon(host)` for one that is given up, to cut what its thread hangs on. An error
    that is no HostError (a fault of ours, not of the host) is raised here.
    """
    order = list(dict.fromkeys(hosts))
    waiting = deque(order)
    running: dict[str, float] = {}
    results: queue.SimpleQueue[tuple[str, T | None, BaseException | None]] = queue.SimpleQueue()
    outcomes: dict[str, Outcome[T]] = {}

    def settle(host: str, outcome: Outcome[T]) -> None:
        del running[host]
        outcomes[host] = outcome
        if done:
            done(host, outcome)

    def body(host: str) -> None:
        try:
            results.put((host, work(host), None))
        except BaseException as error:  # noqa: BLE001 (carried over to the caller's thread)
            results.put((host, None, error))

    while waiting or running:
        while waiting and len(running) < width:
            host = waiting.popleft()
            running[host] = time.monotonic() + deadline
            threading.Thread(target=body, args=(host,), name=f"host {host}", daemon=True).start()
        try:
            first = min(running.values()) - time.monotonic()
            host, value, error = results.get(timeout=max(0.0, first))
        except queue.Empty:
            now = time.monotonic()
            for host in [name for name, end in running.items() if end <= now]:
                abandon(host)
                settle(host, Outcome(error=_too_late(host, deadline)))
            continue
        if host not in running:  # it was given up before
            continue
        if error is not None and not isinstance(error, HostError):
            raise error
        settle(host, Outcome(value, error))
    return {host: outcomes[host] for host in order}


def _too_late(host: str, deadline: float) -> Unreachable:
    return Unreachable(
        host,
        f"no answer within {deadline:.0f} s",
        code="deadline",
        hint="what it did until then is not known: `fab status` asks it again",
    )
