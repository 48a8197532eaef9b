"""The fleet for programs, and for the tasks `fab run`, `fab shell` and `fab logs`, which are some.

with fleet("staging") as staging:
    staging.on("streaming").run("uptime").check()
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from backline.errors import BacklineError, Exit

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.adhoc.command import Command, Job
    from backline.operations.adhoc.results import Result, Results
    from backline.operations.logs.entry import Entry
    from backline.operations.logs.wanted import Wanted
    from backline.transport.fleet import SshFleet


class Fleet:
    """An environment's hosts. Connections are made when they are needed and kept for the next
    command, until `close` or the end of the `with` block."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._reached: dict[bool, SshFleet] = {}

    @classmethod
    def named(cls, name: str = "") -> Fleet:
        """See backline.fleet."""
        from backline.tasks.operator import environment

        return cls(environment(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def on(self, pattern: str) -> Selection:
        """The hosts that an Ansible pattern means; `all` for all. Raises BacklineError when a part of
        it names nothing."""
        from backline import selection

        if not pattern.strip():
            raise BacklineError(
                "which hosts? An empty pattern is none", state="nothing was changed"
            )
        return Selection(self, pattern, tuple(selection.select(self.environment, pattern)))

    def close(self) -> None:
        """Ends all connections."""
        for hosts in self._reached.values():
            hosts.close()
        self._reached.clear()

    def reach(self, sudo: bool = False) -> SshFleet:
        """The transport: as the deploy user, or as the inventory's administrator, who may `sudo`."""
        if sudo not in self._reached:
            from backline.tasks import operator

            environment = self.environment
            if sudo:
                hosts = {
                    n: replace(h, user=h.admin or h.user) for n, h in environment.hosts.items()
                }
                environment = replace(environment, hosts=hosts)
            self._reached[sudo] = operator.reach(environment)
        return self._reached[sudo]


class Selection:
    """Some hosts of a fleet, in inventory order."""

    def __init__(self, fleet: Fleet, pattern: str, hosts: tuple[str, ...]) -> None:
        self.fleet, self.pattern, self.hosts = fleet, pattern, hosts

    def run(
        self,
        command: str,
        *,
        sudo: bool = False,
        timeout: float = 60.0,
        fanout: int = 0,
        max_fail: int = 0,
        stdin: bytes = b"",
        message: str = "",
        told: Callable[[Result], None] = lambda result: None,
    ) -> Results:
        """Runs `command` by `sh -c` on every host and returns what came of it, host by host.

        Nothing of it stays on a host: neither after `timeout` seconds, nor after an exception, nor when
        this process is killed; it is asked to end then, and killed five seconds later. `fanout`: at
        most so many hosts at a time. `max_fail`: begin no other host after so many failures. `stdin`:
        the input of each. `told` gets each result as it comes. Hosts that fail raise nothing: see
        Results.check.

        Nobody is asked for the number of hosts here, that is for people. KeyboardInterrupt is raised
        when everything was asked to end.
        """
        from backline.operations.adhoc.command import Job

        job = Job(command, timeout, fanout, max_fail, sudo, stdin, kept=True)
        work, results = self.carry_out(job, message, told=told)
        if work.interrupted:
            raise KeyboardInterrupt
        return results

    def carry_out(self, job: Job, message: str = "", **ears: Any) -> tuple[Command, Results]:
        """Carries out a job, and writes it down in the audit trail before and after; `ears`: see
        Command."""
        from backline.operations.adhoc.command import Command
        from backline.tasks.operator import clock, new_run
        from backline.transport.commandlog import recorded

        work = Command(self.fleet.reach(job.sudo), job, clock(), **ears)
        who = new_run("", message).who
        what = {"command": job.command, "on": self.pattern, "sudo": job.sudo}
        with recorded(self.fleet.environment.name, who, what, self.hosts) as end:
            results = work.carry_out(self.hosts)
            code = Exit.INTERRUPTED if work.interrupted else Exit.DONE if results.ok else Exit.ERROR
            end(int(code), [result.host for result in results if not result.ok])
        return work, results

    def logs(self, wanted: Wanted | None = None, **fields: Any) -> Generator[Entry, None, None]:
        """The journals of these hosts, merged in the order of time. `fields` are those of Wanted:
        follow, since, until, grep, units, priority, lines. Raises BacklineError when hosts could not
        be read, after what the others had was handed over."""
        from backline.operations.logs.merge import Journals
        from backline.operations.logs.wanted import Wanted
        from backline.tasks.operator import clock

        asked = wanted or Wanted(**fields)
        yield from Journals(self.fleet.reach(), clock(), asked).read(self.hosts)
