"""The shell line around an operator's command, so that nothing of it stays behind on a host. Pure."""

from __future__ import annotations

import shlex

from backline.transport.port import GRACE_SECONDS

LATE_SECONDS = 1
"""From asking it to end, because its deadline has passed, to killing it: that was the time to end in."""
ENDED = 124, 128 + 9
"""The exit codes of a command that the deadline ended, asked or killed; one may also end with them by
itself."""
CUT = 125
"""The exit code when the input did not arrive whole: then the command was not started."""


def guarded(command: str, deadline: float, *, fed: int = 0, sudo: bool = False) -> str:
    """A shell line that runs `command` so that nothing of it outlives us or `deadline` seconds.

    `command` is one string for `sh -c`. Its process group is asked to end, then killed, when the
    deadline passes, or when our end of stdin closes: we ended, were killed, or the connection broke.
    What it left in the background ends with it, unless it made a session of its own. Its exit code
    is the command's, or one of ENDED. A deadline of 0 is none.

    The first `fed` bytes of stdin are the command's input. They are collected before it starts: half
    of a script must not run because we went away. `sudo`: all of this as root, since only root
    can end what root runs.

    Every host starts these processes, so there are few: `read` is the shell's own, and `timeout`
    makes the process group.
    """
    limits = f"timeout --kill-after={LATE_SECONDS} {deadline:g}"
    source = "<&4 4<&-" if fed else "</dev/null"
    script = (
        "exec 3<&0; "
        + (_collect(fed) if fed else "")
        + f"{limits} sh -c -- {shlex.quote(command)} {source} 3<&- & child=$!; "
        + ("exec 4<&-; " if fed else "")
        + "exec 2>/dev/null; "
        "( while read -r line; do :; done; kill -TERM -$child || kill -TERM $child; "
        f"sleep {GRACE_SECONDS}; kill -KILL -$child ) <&3 >/dev/null & watch=$!; "
        "wait $child; code=$?; kill $watch; kill -KILL -$child; exit $code"
    )
    words = "sudo -n -- sh" if sudo else "sh"
    return f"exec {words} -c {shlex.quote(script)}"


def _collect(size: int) -> str:
    """Puts `size` bytes of stdin where descriptor 4 reads them, in memory where there is room."""
    return (
        "file=$(mktemp -p /dev/shm 2>/dev/null || mktemp) || exit 125; "
        f'head -c {size} <&3 >"$file"; there=$(wc -c <"$file"); exec 4<"$file"; rm -f "$file"; '
        f'[ "$there" -eq {size} ] || {{ echo "the input did not arrive whole" >&2; exit {CUT}; }}; '
    )
