"""`hostctl retire`: what the timer of a later stop runs. It never stops what is live."""

from __future__ import annotations

import os
import sys

from . import record, state, stop, units
from .errors import HostctlError, Refused
from .execute import parse
from .host import Host
from .processes import target


def run(host: Host, arguments: list[str]) -> int:
    """`hostctl retire`, as the timer runs it: plain text for its log. Returns the exit status."""
    try:
        if "SUDO_USER" in os.environ:  # sudo allows hostctl: this way would go around the lease
            raise Refused("timer_only", "only its timer retires a process", "use the verb stop")
        print(retire(host, arguments))
    except HostctlError as error:
        print(f"hostctl retire: {error.message}. {error.hint}".rstrip(), file=sys.stderr)
        return error.exit_status
    return 0


def retire(host: Host, arguments: list[str]) -> str:
    """Stop the instance unless it is live. Returns what was done, for people."""
    request = parse(arguments, "retire")
    request.fields["actor"] = "timer"
    wanted = target(host, request)
    with record.lock(host, wanted.app.name):
        known = state.load(host, wanted.app.name)
        if state.live(known, wanted.process.name) == wanted.release:
            return f"{wanted.unit} is live: it stays"
        found = units.show(host, wanted.process, wanted.release)
        if not found.stopped and not found.stopping:
            stop.order(host, request, wanted)
    already = found.stopped or found.stopping
    stop.wait_for(host, request, wanted, stop.patience(wanted), joined=already)
    return f"{wanted.unit} is stopped"
