"""What runs where."""

from __future__ import annotations

from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach


@operation(
    help={"env": ENV_HELP, "on": ON_HELP + " (default: every host)", "json": JSON_HELP},
)
def status(c: Context, env: str = "", on: str = "", json: bool = False) -> None:
    """Show every host: release, version, processes, who holds the lease, drained, unreachable."""
    from backline import console, selection
    from backline.operations.status import collect, is_mixed

    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    with reach(fleet) as hosts:
        rows = collect(hosts, selected, {name: fleet.hosts[name].groups for name in selected})
    if json:
        for row in rows:
            console.line(row.as_json())
    else:
        console.show_status(rows)
        for app, releases in is_mixed(rows).items():
            console.console().print(
                f"{app} runs in {len(releases)} releases: "
                f"{', '.join(sorted(str(release) for release in releases))}",
                style="yellow",
            )
    dead = [row for row in rows if row.error is not None]
    if dead:
        raise BacklineError(
            f"{len(dead)} of {len(rows)} hosts cannot say what they run",
            hosts=[row.host for row in dead],
            hint=next((row.hint for row in dead if row.hint), "are they up? `fab status` again"),
        )
