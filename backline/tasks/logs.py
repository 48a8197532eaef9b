"""The journals of many hosts, merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context

from backline.errors import BacklineError
from backline.operations.logs.wanted import PRIORITIES
from backline.tasks.command import say
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    Signalled,
    environment,
    operation,
    several,
)
from backline.tasks.run import named

if TYPE_CHECKING:
    from backline.api import Selection
    from backline.operations.logs.entry import Entry
    from backline.operations.logs.merge import Journals


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "follow": "go on with new lines as they come, until Ctrl-C",
        "since": "from when: 10m, '2 hours ago', '2026-11-22 19:00' (the hosts' clock is UTC)",
        "until": "until when, in the same words",
        "grep": "only messages that fit a Perl regular expression",
        "unit": "only of these units, separated by commas; patterns too: 'jukebox-*'",
        "priority": "this and worse: emerg, alert, crit, err, warning, notice, info, debug",
        "lines": "at most so many of the newest lines of each host (default: 100; with --since, --until "
        "or --grep all). With --follow: so many lines back it begins (10), and shows what fits --grep",
        "json": JSON_HELP,
    },
    choices={"priority": PRIORITIES},
)
def logs(
    c: Context,
    env: str = "",
    on: str = "",
    follow: bool = False,
    since: str = "",
    until: str = "",
    grep: str = "",
    unit: str = "",
    priority: str = "",
    lines: int = 0,
    json: bool = False,
) -> None:
    """Show the journals of hosts as one, oldest line first. Exit 1 when one could not be read.

    The deploy user reads them, no root is needed. With --follow a host that is lost is asked again from
    where it stopped, and Ctrl-C ends with 0. Control characters of messages are shown, not obeyed.

    Examples:
        fab logs --env production --since 15m --priority warning
        fab logs --env production --on streaming --unit 'nginx,jukebox-web@*' --follow
        fab logs --env production --since '2026-11-22 19:00' --until '2026-11-22 19:05' --grep 'timed? ?out'
    """
    from backline.api import Fleet
    from backline.operations.logs.merge import Journals
    from backline.operations.logs.wanted import Wanted
    from backline.tasks.operator import clock

    units = tuple(several(unit, "--unit"))
    wanted = Wanted(follow, since, until, grep, units, priority, lines)
    wanted.check()
    with Fleet(environment(env)) as fleet:
        selected = fleet.on(on or "all")
        journals = Journals(fleet.reach(), clock(), wanted, _told)
        try:
            _show(selected, journals, follow, json)
        except BacklineError as error:
            error.hosts = named(error.hosts, "json" if json else "")
            raise


def _show(selected: Selection, journals: Journals, follow: bool, as_json: bool) -> None:
    from contextlib import closing

    from backline import console
    from backline.console.journal import JournalLines

    shown = JournalLines(selected.hosts)

    def show(entry: Entry) -> None:
        if as_json:
            console.line(entry.as_json())
        else:
            shown.show(entry)
            if follow:
                shown.flush()

    with closing(journals.read(selected.hosts)) as entries:  # type: ignore[type-var]
        try:
            for entry in entries:
                show(entry)
        except KeyboardInterrupt as end:
            if not follow or isinstance(end, Signalled):
                raise  # Ctrl-C is how one ends to follow; a signal is none
        shown.flush()


def _told(host: str, what: str) -> None:
    say(f"{host}: {what}")
