"""`fab -l | head -3`: when whoever reads our output goes away, we end as other programs do, quietly.

To let SIGPIPE kill us would be shorter, and would kill a deploy whose SSH connection breaks. A run
that changes hosts goes on unheard (stdout.go_on): half a deploy helps nobody.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import stat
import sys
from contextlib import suppress
from types import TracebackType

from backline import stdout
from backline.errors import BacklineError

ENDED = 128 + signal.SIGPIPE
"""What a shell says of a program that SIGPIPE killed."""


def end_quietly() -> None:
    """For the files that `fab` and `inv` load: their programs print before and after our tasks."""
    stdout.prepare()
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError) and (_unread(1) or _unread(2)):
            sys.exit(ENDED)
        missed = stdout.lost() if stdout.is_loss(error) else None
        if missed is not None:
            _tell(missed)
            sys.exit(missed.exit_code)
        usual(kind, error, trace)

    sys.excepthook = hook
    atexit.register(_let_go)


def _unread(descriptor: int) -> bool:
    """True for a pipe without a reader: then it was not some other pipe that broke."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def drop_terminal() -> None:
    """Sends to nowhere what would go to a terminal that is gone: an error in the middle of tidying up is
    what nobody could read, and would break that off."""
    poll = select.poll()
    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                poll.register(descriptor, 0)
    for descriptor, event in poll.poll(0):
        if event & (select.POLLERR | select.POLLHUP):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _let_go() -> None:
    """Drops what nobody will read, or Python complains of it when it ends, and with its own code. Output
    that is lost for another reason, and was not told of, ends with 1 after all."""
    try:
        print(end="", flush=True)
    except OSError as error:
        if stdout.unheard(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    missed = stdout.lost()
    if missed is not None:
        _tell(missed)
        os._exit(missed.exit_code)  # whatever code Python has in mind: nothing but us is left


def _tell(missed: BacklineError) -> None:
    with suppress(OSError):
        print(f"error: {missed.message}", file=sys.stderr, flush=True)
