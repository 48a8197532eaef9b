"""Mitogen's linear strategy without its pinning of processes to processors on a small controller.

With two or three processors mitogen pins its multiplexer to the first and lets Ansible and all its
workers share the rest: on two, one. The kernel does better: a run over five hosts that changes
nothing took 73 s instead of 93 (`inv bench.converge` has today's numbers). From four on, mitogen's
own choice stays.
"""

from __future__ import annotations

import os

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.strategy

if (os.cpu_count() or 1) < 4:
    ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

Linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, Linear):  # type: ignore[misc,valid-type]
    """What Ansible looks for in this file."""
