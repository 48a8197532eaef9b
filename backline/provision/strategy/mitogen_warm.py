"""Mitogen's linear strategy, made for controllers with few processors.

Ansible forks a worker per task and host; mitogen takes away most of what the host does for it, and
what the controller does is then most of a run's time. Four things are done once here instead of
in every worker, none of which changes what a task does (`inv bench.converge` measures the sum):

* The plugins of Jinja are loaded, and its lexer is made, before the first worker is forked.
* What there is by then is taken from the garbage collector, which else makes every worker copy it.
* A collection's module tells mitogen where it comes from; mitogen would list all that are installed.
* A file that many modules import is compiled once to see what it imports itself.

With two or three processors mitogen pins its multiplexer to the first and lets Ansible and all
its workers share the rest: on two, one. The kernel does better (73 s, not 93, for five hosts).

And one thing is said otherwise: a host whose connection breaks before sudo is unreachable, as it is with
Ansible's own connections. To mitogen the task has failed then.
"""

from __future__ import annotations

import functools
import gc
import os
from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.connection
import ansible_mitogen.loaders
import ansible_mitogen.module_finder
import ansible_mitogen.planner
import ansible_mitogen.services
import ansible_mitogen.strategy
from ansible.errors import AnsibleConnectionFailure, AnsibleModuleError
from ansible.plugins.loader import filter_loader, test_loader
from ansible.template import Templar, trust_as_template

if (os.cpu_count() or 1) < 4:
    ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

ansible_mitogen.module_finder.compile = functools.lru_cache(maxsize=None)(compile)

Linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


def own_collection(invocation: Any) -> None:
    """Adds the folder of the collection that has the module, `.../ansible_collections/NAME/NAME`."""
    invocation._extra_sys_paths.add(invocation.module_path.partition("/plugins/")[0])


ansible_mitogen.planner._load_collections = own_collection

connect_stack = ansible_mitogen.connection.Connection._connect_stack
BROKEN = ansible_mitogen.services.ContextService.disconnect_msg


def connect_or_unreachable(connection: Any, stack: Any) -> None:
    """Mitogen's own, but for how a connection that breaks before sudo is told."""
    try:
        connect_stack(connection, stack)
    except AnsibleModuleError as error:
        if BROKEN in str(error):
            raise AnsibleConnectionFailure(BROKEN) from error
        raise


ansible_mitogen.connection.Connection._connect_stack = connect_or_unreachable


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, Linear):  # type: ignore[misc,valid-type]
    """What Ansible looks for in this file."""

    def run(self, iterator: Any, play_context: Any, result: int = 0) -> int:
        """Warms up what workers inherit, then runs the play; returns Ansible's result code."""
        filter_loader.get("default")
        test_loader.get("defined")
        Templar(self._loader).template(trust_as_template("{{ 1 is defined }}"))
        gc.collect()
        gc.freeze()
        code: int = super().run(iterator, play_context, result)
        return code
