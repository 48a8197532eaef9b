"""Commands that were run on hosts, in the chain of all runs made from here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from backline import places
from backline.errors import BacklineError
from backline.transport.runlog import RunLog

PATIENCE = 5.0
Ended = Callable[[int, Sequence[str]], None]


@contextmanager
def recorded(
    env: str, who: Mapping[str, Any], what: Mapping[str, Any], hosts: Sequence[str]
) -> Iterator[Ended]:
    """Writes down who is about to do what, where and why; the block tells how it ended.

    `who`: run, actor and message. What cannot be written down is not done: BacklineError. The end is
    written when it can be.
    """
    try:
        _add(env, {"event": "command", **who, **what, "hosts": list(hosts)})
    except OSError as error:
        raise BacklineError(
            f"the audit trail cannot be written: {error}",
            state="nothing was run",
            hint=f"look at {places.audit(env)}",
        ) from None
    ended = {"exit_code": 1, "failed": list(hosts)}

    def end(code: int, failed: Sequence[str]) -> None:
        ended.update(exit_code=code, failed=list(failed))

    try:
        yield end
    finally:
        with suppress(OSError, BacklineError):
            _add(env, {"event": "commanded", "run": who["run"], **ended})


def _add(env: str, entry: Mapping[str, Any]) -> None:
    with RunLog(places.audit(env), patience=PATIENCE) as log:
        log.add({"time": round(time.time(), 3), **entry})
