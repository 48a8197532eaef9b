"""Whether whoever asked is still there to hear the answer.

sshd closes our stdout when the connection ends: the controller ended, was killed, or has gone silent for
a minute. A change that is under way comes to its end all the same, since half of it would be worse; a look,
and what can be broken off anywhere, ends then instead of working for nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator

STDOUT = 1
EVERY_MS = 500


@contextlib.contextmanager
def listened() -> Iterator[None]:
    """While this block lasts and nobody listens any more, we are sent SIGHUP, which interrupts it.

    Does nothing in a process that has not asked for signals to become exceptions (`cli`).
    """
    over = threading.Event()
    if callable(signal.getsignal(signal.SIGHUP)):
        threading.Thread(target=_watch, args=(over,), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(over: threading.Event) -> None:
    poll = select.poll()
    poll.register(STDOUT, 0)  # an error and a hang-up are told without being asked for
    while not over.is_set():
        if poll.poll(EVERY_MS) and not over.is_set():
            os.kill(os.getpid(), signal.SIGHUP)
            return
