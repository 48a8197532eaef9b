"""state.json: which releases this host has, what was said of them, and which one is live.

{"schema_version": 1, "releases": {ID: {"state": "staged|good|bad"}}, "good": [ID, …],
 "live": {PROCESS: {"release": ID, "previous": ID|null, "switched_at": epoch seconds}},
 "migrated": {ID: ["expand", …]}, "contracted": [ID, …]}
`releases` is in the order of staging and `good` in the order of marking: no rule looks at times.
`contracted` outlives the releases it names: what a contract migration took away stays away.
"""

from __future__ import annotations

import json
from typing import Any

from . import files
from .errors import HostctlError
from .host import Host

State = dict[str, Any]


def load(host: Host, app: str) -> State:
    """The state of `app`; an empty one when there is none yet."""
    path = host.state(app) / "state.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        found = {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HostctlError(
            "state_damaged",
            f"{path} is not readable as JSON; nothing was changed",
            f"move it away and switch {app} again to the release that serves; see journal.jsonl",
        )
    empty: State = {"schema_version": 1, "releases": {}, "good": [], "live": {}, "migrated": {}}
    return {**empty, "contracted": [], **found}


def save(host: Host, app: str, state: State) -> None:
    """Write the state durably. The caller holds the app's lock."""
    text = json.dumps(state, indent=1) + "\n"
    files.write_atomic(host.state(app) / "state.json", text.encode())


def live(state: State, process: str) -> str | None:
    """The live release of a process, or None."""
    found = state["live"].get(process)
    return found["release"] if found else None


def previous(state: State, process: str) -> str | None:
    """The release that was live before the live one, or None."""
    found = state["live"].get(process)
    return found["previous"] if found else None


def switched_at(state: State, process: str) -> float | None:
    """When the live release of a process became live (epoch seconds), if that is known."""
    found = state["live"].get(process)
    return found.get("switched_at") if found else None


def live_releases(state: State) -> set[str]:
    """Every release that is live for some process."""
    return {entry["release"] for entry in state["live"].values()}
