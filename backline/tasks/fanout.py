"""How fast a command reaches many hosts, beside other programs that do the same."""

from __future__ import annotations

import json as encoder
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks.command import command, say

FLOOR = "asyncssh"
BARS = {"fab run": 1.15, "fab shell, again": 0.25}
"""At most so many times the floor, which is asyncssh and sshd itself."""
AHEAD, AHEAD_OF = 4.0, ("clush", "ansible, cold")
LATE_SECONDS, MOST_MB = 2.0, 400
BEGIN_SECONDS = 0.30
"""Of everything that asks no host, in a fleet whose inventory has been read before."""
JUDGED_FROM = 100
"""With fewer hosts it is the programs' start that is measured."""


@command(
    help={
        "hosts": "how many sshds on loopback addresses",
        "repeat": "how many turns, each program once in each",
        "only": "these alone, separated by commas: asyncssh, 'fab run', 'fab shell', clush, …",
        "wide": "then `fab run` on so many hosts, one in 20 of which never answers (0: leave it out)",
        "inventory": "then read an inventory of so many hosts, beside ansible-inventory (0: leave it out)",
        "json": "print the result as JSON on stdout",
    }
)
def fanout(
    c: Context,
    hosts: int = 200,
    repeat: int = 3,
    only: str = "",
    wide: int = 0,
    inventory: int = 10_000,
    json: bool = False,
) -> None:
    """Time `fab run` and `fab shell` on many hosts against asyncssh, Fabric, pyinfra, clush, Ansible."""
    from backline import places
    from backline.tasks.bench import machine
    from backline.transport import local

    program = [sys.executable, "tests/bench/fanout.py", "--peers", str(_peers())]
    program += ["--hosts", str(hosts), "--repeat", str(repeat), "--only", only]
    process = local.start(
        [*program, "--wide", str(wide), "--inventory", str(inventory)],
        cwd=places.root(),
        env={"PYTHONPATH": str(places.root())},
        stdout=subprocess.PIPE,
        stderr=None,
    )
    try:
        out, _ = process.communicate()
    except BaseException:
        local.end(process)
        raise
    if process.returncode:
        raise BacklineError("the measurement failed", state="see above")
    found: dict[str, Any] = encoder.loads(out)
    medians = {name: statistics.median(times) for name, times in found["seconds"].items()}
    result = {"schema_version": 1, "bench": "fanout", **found, "median": medians}
    if json:
        print(encoder.dumps({**result, "machine": machine()}))
    _show(medians, found.get("wide"), repeat)
    begins = {name: statistics.median(times) for name, times in found["starts"].items()}
    read = {name: statistics.median(times) for name, times in found.get("inventory", {}).items()}
    for name, value in {**begins, **read}.items():
        many = f" of {wording.hosts(inventory)}" if name in read else ""
        say(f"{name + many:36} median {value:6.2f} s")
    missed = [*_slow(medians, hosts), *_narrow(found.get("wide")), *_late(begins, read)]
    if missed:
        raise BacklineError("; ".join(missed))


def _show(medians: dict[str, float], wide: dict[str, Any] | None, repeat: int) -> None:
    floor = medians.get(FLOOR)
    for name, value in medians.items():
        ratio = f"{value / floor:6.2f} times the floor" if floor else ""
        say(f"{name:18} median {value:7.2f} s of {repeat} {ratio}")
    if wide:
        say(
            f"{wording.hosts(wide['hosts'])}, {wide['silent']} of them silent: "
            f"{wide['answered']} answered by {wide['last_answer']} s, "
            f"ended after {wide['seconds']} s, {wide['mb']} MB"
        )


def _slow(medians: dict[str, float], hosts: int) -> list[str]:
    """Which bars were missed."""
    floor, ours = medians.get(FLOOR), medians.get("fab run")
    if hosts < JUDGED_FROM or floor is None:
        return []
    missed = [
        f"{name} took {medians[name] / floor:.2f} times the floor, the bar is {bar}"
        for name, bar in BARS.items()
        if name in medians and medians[name] > bar * floor
    ]
    if ours is not None:
        missed += [
            f"{name} took only {medians[name] / ours:.1f} times as long as fab run"
            for name in AHEAD_OF
            if name in medians and medians[name] < AHEAD * ours
        ]
    return missed


def _late(begins: dict[str, float], read: dict[str, float]) -> list[str]:
    quick = {**begins, **({"fab, again": read["fab, again"]} if read else {})}
    missed = [
        f"{name} took {value:.2f} s, the bar is {BEGIN_SECONDS}"
        for name, value in quick.items()
        if value > BEGIN_SECONDS
    ]
    if read and read["fab, first"] > read["ansible-inventory"]:
        missed.append("reading an inventory for the first time took longer than ansible-inventory")
    return missed


def _narrow(wide: dict[str, Any] | None) -> list[str]:
    if wide is None:
        return []
    missed = []
    if wide["answered"] != wide["hosts"] - wide["silent"]:
        missed.append(f"only {wording.hosts(wide['answered'])} answered")
    if wide["seconds"] > wide["timeout"] + LATE_SECONDS:
        missed.append(f"it ended {wide['seconds'] - wide['timeout']:.1f} s after its deadline")
    if wide["mb"] > MOST_MB:
        missed.append(f"{wide['mb']} MB of at most {MOST_MB}")
    return missed


def _peers() -> Path:
    """An environment with the peers, locked by digest: none of them is needed for anything else."""
    from backline import places
    from backline.transport import local

    place = places.cache() / "bench-venv"
    uv, python = local.tool("uv"), str(place / "bin" / "python")
    lock = "tests/bench/requirements.lock"
    for words in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(place)],
        ["pip", "sync", "--quiet", "--require-hashes", "--python", python, lock],
    ):
        done = local.run([uv, *words], cwd=places.CHECKOUT, deadline=600)
        if done.code:
            raise BacklineError(
                "the peers could not be installed",
                state=done.stderr[-1000:],
                hint="they come from the machine's package index, once",
            )
    return place
