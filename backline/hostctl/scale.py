"""`hostctl scale`: how many jobs a pool of this host does at once, whatever the inventory says.

It is kept until it is taken back: over restarts, reboots, deploys and playbooks. A pool that runs is not
touched: its next start takes it up.
"""

from __future__ import annotations

import json

from . import files, record, settings
from .errors import UsageError
from .host import Host
from .names import Request

MOST = 512


def scale(host: Host, request: Request) -> dict[str, object]:
    """The verb `scale`. Returns {children, was, inventory, already}.

    `children`: from now on; without it the inventory's number is in force again. `was`: what was kept
    before, or None. Raises `UsageError` for a process that is no pool.
    """
    app = settings.app(host, request.app())
    name = request.process()
    wanted = (
        request.integer("children", minimum=1, maximum=MOST) if request.has("children") else None
    )
    with record.fenced(host, request):
        process = settings.process(host, app.name, name)
        if "concurrency" not in process.parameters:
            raise UsageError("not_a_pool", f"{name} is no pool of workers; nothing was changed")
        known = settings.scales(host, app.name)
        was = known.get(name)
        if wanted != was:
            record.change(host, request, "done", process=name, children=wanted, was=was)
            _keep(host, app.name, {**known, name: wanted})
    return {
        "children": wanted,
        "was": was,
        "inventory": inventory(host, app.name, name),
        "already": wanted == was,
    }


def inventory(host: Host, app_name: str, name: str) -> int:
    """The number that the inventory gives a pool."""
    path = host.path(f"{settings.CONFIGURATION}/{app_name}/processes/{name}.json")
    return int(json.loads(path.read_text())["parameters"].get("concurrency", 1))


def _keep(host: Host, app_name: str, wanted: dict[str, int | None]) -> None:
    path = settings.scale_file(host, app_name)
    left = {name: children for name, children in wanted.items() if children is not None}
    if left:
        files.write_atomic(path, json.dumps(left).encode() + b"\n")
    else:
        files.remove(path)
