"""A stop that comes later: a timer of systemd that runs `hostctl retire`.

The old process stays warm for a while after a switch, so that going back is one rename. It must
go then even when no controller is left to send it away, and must stay when it is needed again:
whoever starts it or switches to it cancels the timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import HostctlError
from .host import Host

if TYPE_CHECKING:
    from .processes import Target

PROGRAM = "/usr/local/bin/hostctl"


def unit(wanted: Target) -> str:
    """The timer's name, without its ending."""
    return f"backline-retire-{wanted.app.name}-{wanted.process.name}-{wanted.release}"


def pending(host: Host, wanted: Target) -> bool:
    """True while a stop is scheduled."""
    argv = ["systemctl", "is-active", "--quiet", f"{unit(wanted)}.timer"]
    return host.run(argv, timeout=20).status == 0


def schedule(host: Host, wanted: Target, seconds: float) -> None:
    """Have the instance stopped in `seconds`. Raises `HostctlError` (systemd_failed)."""
    name = unit(wanted)
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--on-active={seconds:g}s"]
    argv += ["--timer-property=AccuracySec=1s", f"--description=Retire {wanted.unit}"]
    argv += [PROGRAM, "retire", "--app", wanted.app.name, "--process", wanted.process.name]
    ended = host.run([*argv, "--release", wanted.release], timeout=30)
    if ended.status != 0:
        said = " ".join((ended.err or ended.out).split())[:300] or "no answer within 30 s"
        raise HostctlError(
            "systemd_failed",
            f"systemd-run {name}: {said}; {wanted.unit} still runs",
            "look at `systemctl list-timers` on the host",
        )


def cancel(host: Host, wanted: Target) -> None:
    """Forget a scheduled stop, if there is one. The caller holds the app's lock.

    A `retire` that waits for that lock is ended too; one that had it is over.
    """
    name = unit(wanted)
    host.run(["systemctl", "stop", f"{name}.timer", f"{name}.service"], timeout=30)
