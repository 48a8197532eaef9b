"""What runs where, and how each host is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks import operator
from backline.tasks.command import say
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.status import Row
    from backline.transport.fleet import SshFleet

LONGEST_INTERVAL = 86400
WATCH_DEADLINE = 10.0
"""Seconds that a host has in each round: one that is dead must not make all others look old."""


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "json": JSON_HELP,
        "watch": "look again and again, until Ctrl-C (then the exit code is 130)",
        "interval": "with --watch: seconds from one look to the next",
        "times": "with --watch: end after so many looks (0: never)",
    },
)
def status(
    c: Context,
    env: str = "",
    on: str = "",
    json: bool = False,
    watch: bool = False,
    interval: float = 5.0,
    times: int = 0,
) -> None:
    """Show every host: release, processes, health, load, memory, disk, certificates, role, queue, drained.

    Leases, quarantine, failed units, a broken database member and what waits for a window are among the
    notes. A wider terminal shows more columns. A host that does not answer is a row, and makes the exit
    code 1. Where there is no terminal, --watch prints one table, or one set of lines, after the other.

    Examples:
        fab status --env lab
        fab status --env lab --on 'streaming:!stream3' --watch
        fab status --env lab --json | jq -r 'select(.drained).host'
    """
    from backline import console, selection
    from backline.operations.status import is_mixed
    from backline.tasks.provision import killed

    if not 0 < interval <= LONGEST_INTERVAL or times < 0:
        raise BacklineError(
            f"--interval is more than 0 seconds and at most {LONGEST_INTERVAL}, --times is not negative"
        )
    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    with reach(fleet) as hosts:
        looks = Looks(fleet, hosts, selected)
        if not watch:
            looks.look()
            if json:
                _print(looks.rows, {})
            else:
                console.show_status(looks.rows)
        elif json:
            for number in looks.again(interval, times):
                _print(looks.rows, {"round": number, "at": operator.clock().time()})
        else:
            with console.watch_status(looks.title) as screen:
                looks.heard = screen.partly
                for _ in looks.again(interval, times):
                    screen.whole(looks.rows)
    if not json:
        for app, releases in is_mixed(looks.rows).items():
            names = ", ".join(sorted(str(release) for release in releases))
            say(f"{app} runs in {len(releases)} releases: {names}")
        if unended := killed(fleet):
            say(f"{unended}: the same command goes on")
    _refuse_dead(looks.rows)


class Looks:
    """Looks at hosts, once or again and again; `rows` is what they said last.

    `heard` is told all rows whenever a host has answered, those of the others as they were.
    """

    def __init__(self, fleet: Environment, hosts: SshFleet, selected: list[str]) -> None:
        self.fleet, self.hosts, self.selected = fleet, hosts, selected
        self.rows: list[Row] = []
        self.heard: Callable[[Sequence[Row]], None] = lambda rows: None
        self.number, self.every = 0, 0.0

    def title(self) -> str:
        """What stands above the table."""
        from backline.console.fleet_table import now

        dead = {row.host for row in self.rows if row.error is not None}
        silent = f", {len(dead)} without an answer" if dead else ""
        return (
            f"{self.fleet.name}  {now()}  {wording.hosts(len(self.selected))}{silent}  "
            f"look {self.number}, every {self.every:g} s"
        )

    def look(self, deadline: float = 0.0) -> None:
        """Asks every host once."""
        from backline.operations.status import DEADLINE, collect

        groups = {name: self.fleet.hosts[name].groups for name in self.selected}
        by_host: dict[str, list[Row]] = {}
        for row in self.rows:
            by_host.setdefault(row.host, []).append(row)

        def done(rows: list[Row]) -> None:
            by_host[rows[0].host] = rows
            self.heard([row for name in self.selected for row in by_host.get(name, ())])

        self.rows = collect(self.hosts, self.selected, groups, deadline or DEADLINE, done)

    def again(self, interval: float, times: int) -> Iterator[int]:
        """Looks `times` times (0: for ever), `interval` seconds from one to the next; the number of each."""
        clock = operator.clock()
        self.every = interval
        while True:
            began = clock.monotonic()
            self.number += 1
            self.look(WATCH_DEADLINE)
            yield self.number
            if self.number == times:
                return
            clock.sleep(max(0.0, began + interval - clock.monotonic()))


def _print(rows: Sequence[Row], more: dict[str, Any]) -> None:
    from backline import console

    for row in rows:
        console.line({**row.as_json(), **more})


def _refuse_dead(rows: Sequence[Row]) -> None:
    from backline.operations.status import ANSWERS

    dead = [row for row in rows if row.error is not None]
    if dead:
        raise BacklineError(
            f"{len(dead)} of {wording.hosts(len({row.host for row in rows}))} cannot say what runs there",
            hosts=[row.host for row in dead],
            hint=next((row.hint for row in dead if row.hint), ANSWERS),
        )
