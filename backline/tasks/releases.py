"""Which releases there are, on the hosts and here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach

if TYPE_CHECKING:
    from backline.operations.releases import Lying


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "app": "only of this app",
        "limit": "so many of the newest that lie only here; 0: all of them, as with --json",
        "json": JSON_HELP,
    },
)
def releases(
    c: Context, env: str = "", on: str = "", app: str = "", limit: int = 10, json: bool = False
) -> None:
    """Show the releases that hosts have: live, warm, good or bad, and which lie in dist/ here.

    A warm one still runs behind the live one: `fab rollback` to it takes no start. One that is only
    here was never shipped, or was pruned. The exit code is 1 when a host does not answer.

    Examples:
        fab releases --env lab
        fab releases --env production --on streaming --json
    """
    from backline import console, selection
    from backline.operations.releases import newest
    from backline.operations.releases import releases as sort_out
    from backline.operations.status import collect, require_all, silent

    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    with reach(fleet) as hosts:
        rows = collect(hosts, selected, {})
    found = sort_out(rows, _lying(), app)
    if json:
        for kept in found:
            console.line(kept.as_json())
    elif found:
        shown, more = newest(found, limit)
        console.show_releases(shown)
        if more:
            console.console().print(
                f"{more} older ones lie only in dist/ here: --limit 0 shows them", markup=False
            )
    else:
        who = "none of the hosts that answered" if silent(rows) else "no host"
        console.console().print(f"{who} has a release, and none lies in dist/", markup=False)
    require_all(rows, "what they have is not above")


def _lying() -> dict[str, Lying]:
    """What lies in dist/, by ID."""
    from backline import places
    from backline.operations.releases import Lying
    from backline.release import store

    found = {}
    for name in store.ids(places.dist()):
        try:
            release = store.load(places.dist(), name).release
            found[name] = Lying(release.app, release.version)
        except BacklineError as error:
            found[name] = Lying("?", trouble=error.message)
    return found
