"""The certificates of the fleet."""

from __future__ import annotations

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "days": "exit 1 when one has fewer days left",
        "json": JSON_HELP,
    },
)
def certs(c: Context, env: str = "", on: str = "", days: float = 14.0, json: bool = False) -> None:
    """Show every certificate of every host, the edges' included, and the days that each has left.

    `host` and `ca` are those of the fleet's own authority, `edge` is what listeners are shown, `acme`
    what certbot has. The exit code is 1 when one has fewer than --days left or cannot be read, or
    when a host does not answer.

    Examples:
        fab certs --env production
        fab certs --env production --on edge --days 30
        fab certs --env lab --json | jq -r 'select(.days < 20).host'
    """
    from backline import console, selection
    from backline.operations import certificates

    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    with reach(fleet) as hosts:
        view = certificates.collect(hosts, selected)
    if json:
        for entry in view.entries:
            console.line(entry.as_json())
    else:
        console.show_certificates(view.entries, days)
    ending = view.ending(days)
    faults = [wording.said(view.silent)] if view.silent else []
    if ending:
        faults.insert(0, f"{len(ending)} certificates end within {days:g} days or cannot be read")
    if faults:
        raise BacklineError(
            "\n".join(faults),
            hosts=dict.fromkeys(
                [entry.host for entry in ending] + [error.host for error in view.silent]
            ),
            hint="docs/how-to/certificates.md and docs/how-to/internal-ca.md say how each is renewed"
            if ending
            else next((error.hint for error in view.silent if error.hint), ""),
        )
