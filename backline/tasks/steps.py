"""Runs the commands that make up a longer task: shows each, times it, sums up at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from backline.errors import BacklineError
from backline.places import CHECKOUT
from backline.tasks.command import say

ROOT = CHECKOUT
BIN = Path(sys.executable).parent
TAIL = 30
"""Lines of a failed step's output that are shown once more at the end of a long run."""


class StepsError(BacklineError):
    """Some steps failed; `tails` has the end of the output of each that was not shown as it ran."""

    def __init__(self, message: str, hint: str, tails: Sequence[str]) -> None:
        super().__init__(message, hint=hint)
        self.tails = tuple(tails)


@dataclass(frozen=True)
class Step:
    """One command: `title` for people, `argv`, and where and with what it runs."""

    title: str
    argv: Sequence[str | Path]
    folder: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)
    again: str = ""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment with the virtual environment's programs first on PATH."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, **(extra or {})}


def mitogen() -> dict[str, str]:
    """The variables that make ansible-playbook and molecule use mitogen's strategy."""
    import importlib.util

    if importlib.util.find_spec("ansible_mitogen") is None:
        return {}
    return {
        "ANSIBLE_STRATEGY": "mitogen_warm",
        "ANSIBLE_STRATEGY_PLUGINS": str(ROOT / "backline" / "provision" / "strategy"),
        # Mitogen works; that Ansible would rather have no strategy plugins is said once in the docs.
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
    }


def run_all(steps: Sequence[Step], at_once: int = 1) -> None:
    """Runs every step even if one fails, sums up, and raises StepsError naming those that failed.

    With `at_once` > 1 a step's output is shown when the step is over.
    """
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(lambda step: _run(step, shown=at_once == 1), steps))
    print(flush=True)
    for step, (code, seconds, _) in zip(steps, results, strict=True):
        print(
            f"  {'ok    ' if code == 0 else 'FAILED'} {step.title:40} {seconds:6.1f} s", flush=True
        )
    say(f"{len(steps)} steps, {time.monotonic() - started:.0f} s")
    failed = [
        (step, output) for step, (code, _, output) in zip(steps, results, strict=True) if code != 0
    ]
    if failed:
        raise StepsError(
            f"{len(failed)} of {len(steps)} failed: {', '.join(step.title for step, _ in failed)}",
            hint="; ".join(step.again for step, _ in failed if step.again),
            tails=[_tail(step, output) for step, output in failed if output],
        )


def _tail(step: Step, output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return "\n".join([f"== {step.title}, the end of its output", *lines[-TAIL:]])


def _run(step: Step, shown: bool) -> tuple[int, float, str]:
    """Its exit code, its seconds, and its output unless that was shown as it ran."""
    started = time.monotonic()
    print(f"\n== {step.title}", flush=True)
    done = subprocess.run(
        [str(word) for word in step.argv],
        cwd=step.folder,
        env=environment(step.environment),
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        check=False,
    )
    output = ""
    if not shown:
        output = done.stdout.decode(errors="replace")
        told = output if done.returncode else "\n".join(output.splitlines()[-12:])
        print(f"\n== {step.title}: exit code {done.returncode}\n{told}", flush=True)
    return done.returncode, time.monotonic() - started, output
