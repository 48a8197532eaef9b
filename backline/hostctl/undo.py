"""What undoes itself: a timer of systemd that takes back what a controller left behind.

A planned switchover holds proxies and pauses PgBouncer. Each of these is undone by who did it; when
that one is gone, by the host itself after a while. The timer is there before the first change.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .errors import HostctlError, Refused, UsageError

if TYPE_CHECKING:
    from .host import Host

PROGRAM = "/usr/local/bin/hostctl"
WHAT = ("proxy", "database")


def units(what: str) -> list[str]:
    """The names that its timer may have, without their ending: a new one is there before the old one goes,
    and beside one whose service is at work."""
    name = f"backline-undo-{what}"
    return [name, f"{name}-2", f"{name}-3"]


def pending(host: Host, what: str) -> bool:
    """True while the host will undo it by itself; a timer whose service is at work does not count."""
    argv = ["systemctl", "show", "--property=SubState", "--value", *_timers(units(what))]
    return "waiting" in host.run(argv, timeout=20).out.split()


def later(host: Host, what: str, seconds: float) -> None:
    """Have it undone in `seconds`, counted anew. Raises `HostctlError` (systemd_failed)."""
    names = units(what)
    options = ["--quiet", "--collect", f"--on-active={seconds:g}s"]
    options += ["--timer-property=AccuracySec=1s", f"--description=Undo what holds the {what}"]
    for name in names:
        argv = ["systemd-run", f"--unit={name}", *options, PROGRAM, "undo", what]
        ended = host.run(argv, timeout=30)
        if ended.status == 0:
            _stop(host, [other for other in names if other != name])
            return
    said = " ".join((ended.err or ended.out).split())[:300] or "no answer within 30 s"
    raise HostctlError(
        "systemd_failed",
        f"systemd-run {name}: {said}; nothing was held or paused",
        "without it nothing would end by itself: look at `systemctl list-timers` on the host",
    )


def cancel(host: Host, what: str) -> None:
    """Forget the timer, if there is one. Not its service: that is who may be asking."""
    _stop(host, units(what))


def _stop(host: Host, names: list[str]) -> None:
    host.run(["systemctl", "stop", *_timers(names)], timeout=30)


def _timers(names: list[str]) -> list[str]:
    return [f"{name}.timer" for name in names]


def run(host: Host, arguments: list[str]) -> int:
    """`hostctl undo proxy|database`, as the timer runs it: plain text for its log."""
    try:
        if "SUDO_USER" in os.environ:  # for people there are the verbs, which say who they are
            raise Refused("timer_only", "only its timer undoes", "use the verb proxy or database")
        if arguments not in ([name] for name in WHAT):
            raise UsageError("bad_flag", f"undo: one of {', '.join(WHAT)}")
        print(_undo(host, arguments[0]))
    except HostctlError as error:
        print(f"hostctl undo: {error.message}. {error.hint}".rstrip(), file=sys.stderr)
        return error.exit_status
    return 0


def _undo(host: Host, what: str) -> str:
    from .names import Request

    request = Request("undo", {"actor": "timer"})
    if what == "proxy":
        from . import proxy

        return proxy.undo_by_itself(host, request)
    from . import database

    return database.undo_by_itself(host, request)
