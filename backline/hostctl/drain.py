"""`hostctl drain`: take this host out of whatever balances onto it, and put it back."""

from __future__ import annotations

from pathlib import Path

from . import files, record
from .host import Host
from .names import Request

FLAG = "/run/backline/drain"
# The dot keeps it apart from backline-<app>.conf, whatever apps are called.
PERSISTENT = "/etc/tmpfiles.d/backline.drain.conf"
BY_PATCH = "/etc/tmpfiles.d/backline-drain.conf"  # of playbooks/files/host_drain.py
TMPFILES = (
    f"# Written by `hostctl drain`: it stays drained after a reboot.\nf {FLAG} 0644 root root\n"
)


def drain(host: Host, request: Request) -> dict[str, object]:
    """The verb `drain`: nginx answers 404 on /_health while the flag file exists.

    Returns {drained, already}. `on` with `"persist": true` outlives a reboot; `off` ends that too,
    also where a run of patch.yml that stopped half way left the host drained. `on` there makes it the
    drain of who asks: no later patch puts the host back.
    `show` needs neither app nor lease and returns {drained, persist}.
    """
    action = request.choice("action", ("on", "off", "show"))
    flag, persistent, by_patch = (host.path(name) for name in (FLAG, PERSISTENT, BY_PATCH))
    if action == "show":
        return {"drained": flag.exists(), "persist": persistent.exists()}
    persist = request.boolean("persist")
    with record.fenced(host, request):
        if action == "on":
            already = flag.exists() and (persistent.exists() or not persist)
            already = already and not by_patch.exists()
        else:
            already = not any(path.exists() for path in (flag, persistent, by_patch))
        if not already:
            more = {"persist": True} if persist and action == "on" else {}
            record.change(host, request, "done", action=action, **more)
            _set(request, action == "on", persist, flag, persistent)
            # It sorts before the other: after a boot its name would be in the flag.
            files.remove(by_patch)
    return {"drained": action == "on", "already": already}


def _set(request: Request, drained: bool, persist: bool, flag: Path, persistent: Path) -> None:
    if not drained:
        files.remove(persistent)
        files.remove(flag)
        return
    if persist:
        files.write_atomic(persistent, TMPFILES.encode())
    flag.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write_atomic(flag, f"{request.run()}\n".encode())
