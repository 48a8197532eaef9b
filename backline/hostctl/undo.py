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


def unit(what: str) -> str:
    """The timer's name, without its ending."""
    return f"backline-undo-{what}"


def pending(host: Host, what: str) -> bool:
    """True while the host will undo it by itself."""
    argv = ["systemctl", "is-active", "--quiet", f"{unit(what)}.timer"]
    return host.run(argv, timeout=20).status == 0


def later(host: Host, what: str, seconds: float) -> None:
    """Have it undone in `seconds`, counted anew. Raises `HostctlError` (systemd_failed)."""
    cancel(host, what)
    name = unit(what)
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--on-active={seconds:g}s"]
    argv += ["--timer-property=AccuracySec=1s", f"--description=Undo what holds the {what}"]
    ended = host.run([*argv, PROGRAM, "undo", what], timeout=30)
    if ended.status != 0:
        said = " ".join((ended.err or ended.out).split())[:300] or "no answer within 30 s"
        raise HostctlError(
            "systemd_failed",
            f"systemd-run {name}: {said}; nothing was held or paused",
            "without it nothing would end by itself: look at `systemctl list-timers` on the host",
        )


def cancel(host: Host, what: str) -> None:
    """Forget the timer, if there is one. Not its service: that is who may be asking."""
    host.run(["systemctl", "stop", f"{unit(what)}.timer"], timeout=30)


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
