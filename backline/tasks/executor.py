"""Makes `fab -H hosts task` mean `fab task --on hosts`.

Fabric runs the whole task once per host, one after the other, on connections that accept any host
key. Our tasks choose their hosts themselves, all at once and with pinned keys. Named in fabric.yaml.
"""

from __future__ import annotations

from typing import Any

import fabric
from invoke.exceptions import Exit

from backline.tasks.operator import SELECTOR


class SelectingExecutor(fabric.Executor):  # type: ignore[misc]
    """Hands `-H` to the tasks as their selection instead of repeating them."""

    def expand_calls(self, calls: Any, apply_hosts: bool = True) -> Any:
        """Every call once; `fab -H x -- command` is refused, it would bypass pinned host keys."""
        if self.core.remainder:
            raise Exit("error: `fab -H … -- command` skips host keys and deadlines; use a task", 1)
        hosts = self.core[0].args.hosts.value
        if hosts and apply_hosts:
            self.config[SELECTOR] = hosts
            self.core[0].args.hosts.value = None
        return super().expand_calls(calls, apply_hosts=False)
