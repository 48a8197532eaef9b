"""The message brokers."""

from __future__ import annotations

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.operator import ENV_HELP, JSON_HELP, environment, operation, reach


@operation(help={"env": ENV_HELP, "json": JSON_HELP})
def status(c: Context, env: str = "", json: bool = False) -> None:
    """Show brokers, alarms, who may stop, queues and dead letters. Exit 1 if anything is wrong.

    SEES is how many of its members a broker reaches, MAY STOP whether queues depend on it: of one or
    two brokers they always do, of more that is wrong. So is a queue without all its copies. Changes
    nothing. What is wrong stands below with a `!`.

    Examples:
        fab broker.status --env production
        fab broker.status --env lab --json | jq 'select(.event == "queue" and .messages > 0)'
    """
    from backline import console
    from backline.operations import broker

    fleet = environment(env)
    with reach(fleet) as hosts:
        view = broker.collect(hosts, fleet.groups.get("broker", ()))
    if json:
        for line in (
            *(row.as_json() for row in view.brokers),
            *(row.as_json() for row in view.queues),
        ):
            console.line(line)
    else:
        console.show_broker(view)
    if view.troubles:
        raise BacklineError(
            "; ".join(view.troubles),
            hosts=[row.host for row in view.brokers if row.error],
            hint="docs/runbooks: broker-down, broker-alarm, broker-partitioned, dead-letters",
        )


collection = Collection("broker")
collection.add_task(status, default=True)
