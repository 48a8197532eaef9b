"""How a run of Ansible looks: live rows on a terminal, quiet lines elsewhere, a summary at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from backline import wording
from backline.console import console, line
from backline.console.paint import shown

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from backline.provision.recap import Change, Recap, Trouble

ROWS = 20
# A role that changed in more tasks than these is summed up in one line.
FEW = 5
FRAME_SECONDS = 0.2


class View:
    """Shows one run; `quiet` leaves out the changes and the plays while it runs."""

    def __init__(self, as_json: bool, diff: bool) -> None:
        self.as_json, self.diff, self.quiet = as_json, diff, False
        self.hosts: list[str] = []
        self.console = console()
        self.began = self._drawn = time.monotonic()
        self._live: Live | None = None
        self._play = ""

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        if self.console.is_terminal and not self.as_json:
            from rich.live import Live

            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def start(
        self, playbook: str, env: str, hosts: list[str], check: bool, doing: str = ""
    ) -> None:
        """Says what is about to run. `doing`: in a person's words, such as `reboot`."""
        self.hosts = hosts
        if self.as_json:
            self._json("start", playbook=playbook, env=env, hosts=hosts, check=check)
        else:
            mode = " in check mode" if check else ""
            self._say(wording.touched(doing or f"{playbook} on", hosts, env) + mode, "bold")

    def cut_off(self, what: str) -> None:
        """Tells of the run before, which did not come to its end."""
        if self.as_json:
            self._json("cut_off", text=what)
        else:
            self._say(f"  {what}: hosts keep what it did", "yellow")

    def would_run(self, argv: list[str]) -> None:
        """For a dry run: the command in Ansible's own words."""
        import shlex

        if self.as_json:
            self._json("would_run", argv=argv)
        else:
            self._say(f"  would run: {shlex.join(argv)}")

    def take(self, recap: Recap, event: dict[str, Any]) -> None:
        """Counts an event and shows what it changed."""
        news = recap.take(event)
        if news is not None and not self.quiet:
            self._news(recap, news)
        if self.as_json:
            return
        if recap.play != self._play:
            self._play = recap.play
            if not self._live and not self.quiet:
                self._say(f"  {recap.play} ({time.monotonic() - self.began:.0f} s)")
        if self._live and time.monotonic() - self._drawn > FRAME_SECONDS:
            self._drawn = time.monotonic()
            self._live.update(self._table(recap), refresh=True)

    def summary(self, recap: Recap, check: bool) -> None:
        """What changed where, what failed, and how long it took."""
        seconds = time.monotonic() - self.began
        if self.as_json:
            self._records(recap, seconds)
            return
        verb = "would change" if check else "changed"
        for role, changes in _by_role(recap).items():
            self._role(role, changes, verb)
        for said in recap.told:
            self._say("\n".join(f"  {row}" for row in said.splitlines()))
        self._troubles(recap)
        self._say(_counts(recap))
        so_far = "" if recap.ended else " so far: the run did not come to its end"
        self._say(
            f"{len(recap.changed())} of {wording.hosts(len(recap.hosts))} {verb}, {seconds:.1f} s{so_far}"
        )

    def differences(self, recap: Recap) -> None:
        """Only what differs, on stdout: it is the answer."""
        if self.as_json:
            self._records(recap, time.monotonic() - self.began)
            return
        from backline.selection import fold

        for change in recap.changes.values():
            print(f"{fold(change.hosts)}: {wording.plain(change.task)}")
            for text, hosts in change.diffs.items():
                print(
                    f"  {fold(hosts)}" if len(change.diffs) > 1 else "",
                    end="\n" * (len(change.diffs) > 1),
                )
                rows = shown(text, sys.stdout).splitlines()
                print("\n".join(f"    {row}" for row in rows), flush=True)
        self._troubles(recap)

    def _role(self, role: str, changes: list[Change], verb: str) -> None:
        """A line per task that changed something, or one for all of a role when they are many."""
        from backline.selection import fold

        if len(changes) > FEW and not self.diff:
            hosts = list(dict.fromkeys(host for change in changes for host in change.hosts))
            self._say(f"  {verb} on {fold(hosts)}: {role}, {len(changes)} tasks (--diff: which)")
            return
        for change in changes:
            self._say(f"  {verb} on {fold(change.hosts)}: {change.task}")
            self._diffs(change)

    def _news(self, recap: Recap, news: Trouble | Change) -> None:
        from backline.provision.recap import Trouble

        if not isinstance(news, Trouble):
            return
        what = "unreachable" if news.unreachable else "failed"
        if self.as_json:
            self._json(what, host=news.host, task=news.task, message=news.message)
        else:
            self._say(f"  {news.host} {what}: {news.task}", "red")

    def _troubles(self, recap: Recap) -> None:
        for trouble in recap.troubles:
            what = "unreachable at" if trouble.unreachable else "failed:"
            self._say(f"  {trouble.host} {what} {trouble.task}", "red")
            self._say(f"    {trouble.message}")

    def _diffs(self, change: Change) -> None:
        from backline.selection import fold

        for text, hosts in change.diffs.items() if self.diff else ():
            if len(change.diffs) > 1:
                self._say(f"    on {fold(hosts)}")
            self._say("\n".join(f"    {row}" for row in text.splitlines()))

    def _records(self, recap: Recap, seconds: float) -> None:
        for change in recap.changes.values():
            diffs = [{"hosts": hosts, "diff": text} for text, hosts in change.diffs.items()]
            self._json("change", task=change.task, path=change.where, hosts=change.hosts,
                       diffs=diffs if self.diff else [])  # fmt: skip
        if self.quiet:
            for trouble in recap.troubles:
                self._json("unreachable" if trouble.unreachable else "failed", host=trouble.host,
                           task=trouble.task, message=trouble.message)  # fmt: skip
        for said in recap.told:
            self._json("told", text=said)
        hosts = {
            name: {key: getattr(count, key) for key in ("ok", "changed", "failed", "unreachable")}
            for name, count in recap.hosts.items()
        }
        self._json("summary", hosts=hosts, seconds=round(seconds, 2), complete=recap.ended)

    def _table(self, recap: Recap) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for name in ("HOST", "OK", "CHANGED", "TASK"):
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        busiest = sorted(recap.hosts.items(), key=lambda pair: -pair[1].changed)[:ROWS]
        for host, count in busiest:
            style = "red" if count.failed or count.unreachable else None
            table.add_row(host, str(count.ok), str(count.changed), escape(count.task), style=style)
        if len(recap.hosts) > ROWS:
            table.add_row(f"+ {len(recap.hosts) - ROWS}", "", "", "")
        return table

    def _say(self, what: str | Table, style: str | None = None) -> None:
        self.console.print(what, style=style, markup=False)

    def _json(self, event: str, **fields: Any) -> None:
        line({"schema_version": 1, "event": event, **fields})


def _by_role(recap: Recap) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in recap.changes.values():
        role, colon, _ = change.task.partition(" : ")
        found.setdefault(role if colon else "tasks of the playbooks", []).append(change)
    return found


def _counts(recap: Recap) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("HOST", "OK", "CHANGED", "FAILED", "UNREACHABLE"):
        table.add_column(name)
    for host, count in recap.hosts.items():
        numbers = (count.ok, count.changed, count.failed, count.unreachable)
        style = "red" if count.failed or count.unreachable else None
        table.add_row(host, *map(str, numbers), style=style)
    return table
