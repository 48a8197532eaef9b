"""Makes `fab -H hosts task` mean `fab task --on hosts`, and one command line be one task.

Fabric runs the whole task once per host, one after the other, on connections that accept any host
key. Our tasks choose their hosts themselves, all at once and with pinned keys. Named in fabric.yaml.
"""

from __future__ import annotations

from typing import Any

import fabric
from invoke.exceptions import Exit

from backline.tasks import last_line
from backline.tasks.operator import SELECTOR


class SelectingExecutor(fabric.Executor):  # type: ignore[misc]
    """Hands `-H` to the tasks as their selection instead of repeating them."""

    def execute(self, *tasks: Any) -> Any:
        """Runs the task. Refuses several: `fab run echo rollback` would be a command and a rollback."""
        if len(tasks) > 1:
            names = ", ".join(task.name for task in tasks)
            raise _refused(
                f"{len(tasks)} tasks on one command line: {names}",
                "one at a time; the command of `fab run` is one word: fab run 'CMD' --on PATTERN",
            )
        return super().execute(*tasks)

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> Any:
        """Every call once; `fab -H x task -- command` is refused, it would bypass pinned host keys.
        Without a task Fabric does not even read fabric.yaml: lab/fab.py refuses that."""
        if self.core.remainder:
            raise _refused(
                "a command behind -- would skip host keys and deadlines",
                "fab run 'CMD' --on PATTERN",
            )
        hosts = self.core[0].args.hosts.value
        if hosts is not None and apply_hosts:
            if not hosts.strip():
                raise _refused("-H was given nothing", "a variable that is not set?")
            self.config[SELECTOR] = hosts
            self.core[0].args.hosts.value = None
        return super().expand_calls(calls, apply_hosts=False)


def _refused(what: str, then: str) -> Exit:
    text = f"error: {what}\n  state: nothing was started\n  next: {then}"
    last_line.refused(text)
    return Exit(text, 1)
