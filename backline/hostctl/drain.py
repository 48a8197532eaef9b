"""`hostctl drain`: take this host out of whatever balances onto it, and put it back."""

from __future__ import annotations

from . import files, record
from .host import Host
from .names import Request

FLAG = "/run/backline/drain"


def drain(host: Host, request: Request) -> dict[str, object]:
    """The verb `drain`: nginx answers 404 on /_health while the flag file exists.

    Returns {drained, already}. `show` needs neither app nor lease.
    """
    action = request.choice("action", ("on", "off", "show"))
    flag = host.path(FLAG)
    if action == "show":
        return {"drained": flag.exists()}
    wanted = action == "on"
    with record.fenced(host, request):
        if flag.exists() == wanted:
            return {"drained": wanted, "already": True}
        record.change(host, request, "done", action=action)
        flag.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if wanted:
            files.write_atomic(flag, f"{request.run()}\n".encode())
        else:
            files.remove(flag)
    return {"drained": wanted, "already": False}
