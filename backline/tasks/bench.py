"""How fast things are, measured side by side in one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks import fanout
from backline.tasks.command import command, say

BAR = 4.0
BAR_SECONDS, BAR_MB = 5.0, 300


@command(
    help={
        "env": "a lab that is built and has nothing to change",
        "repeat": "how many runs of each, one after the other",
        "json": "print the result as JSON on stdout",
    }
)
def converge(c: Context, env: str = "lab", repeat: int = 3, json: bool = False) -> None:
    """Time `fab provision` with nothing to change against stock ansible-playbook, same hosts."""
    import json as encoder
    import statistics
    import tempfile

    from backline import places
    from backline.lab import files

    files.require(env)
    playbook = ["-i", f"inventory/{env}", "playbooks/site.yml"]
    seconds: dict[str, list[float]] = {"fab provision": [], "ansible-playbook": []}
    with tempfile.TemporaryDirectory(prefix="backline-bench-") as folder:
        for turn in range(repeat):
            for name, argv, extra in (
                ("fab provision", ["fab", "provision", "--env", env, "--json"], {}),
                ("ansible-playbook", ["ansible-playbook", *playbook], _stock(Path(folder))),
            ):
                took = _timed(argv, extra)
                seconds[name].append(round(took, 1))
                say(f"{turn + 1}/{repeat} {name:18} {took:6.1f} s")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    result = {
        "schema_version": 1,
        "bench": "converge",
        "env": env,
        "hosts": len(files.require(env).topology().hosts),
        "seconds": seconds,
        "median": medians,
        "ratio": round(medians["ansible-playbook"] / medians["fab provision"], 2),
        "bar": BAR,
        "machine": machine(),
    }
    kept = places.root() / ".lab" / "bench-converge.json"
    kept.write_text(encoder.dumps(result, indent=2) + "\n", encoding="utf-8")
    if json:
        print(encoder.dumps(result))
    for name, value in medians.items():
        say(f"{name:18} median {value:6.1f} s of {repeat}")
    say(f"ratio {result['ratio']} (bar {BAR}); kept in {kept}")
    if float(str(result["ratio"])) < BAR:
        raise BacklineError(
            f"fab provision is {result['ratio']} times as fast as stock Ansible, not {BAR}"
        )


@command(
    help={
        "hosts": "how many hosts",
        "profile": "show where the time goes",
        "json": "print the results as JSON on stdout, one per line",
    }
)
def rollout(c: Context, hosts: int = 1000, profile: bool = False, json: bool = False) -> None:
    """Measure the engine's own overhead: a deploy to hosts that answer at once, journal on disk."""
    import json as encoder

    slow = []
    for threads in (False, True):
        found = _overhead(hosts, threads, profile)
        if json:
            print(encoder.dumps(found))
        what = f"{found['calls']} calls, {found['events']} events in the journal"
        say(
            f"{wording.hosts(found['hosts'])}, hands: {found['hands']:8} {found['seconds']:6.2f} s "
            f"{found['mb']:4} MB  {what}"
        )
        if found["seconds"] > BAR_SECONDS or found["mb"] > BAR_MB:
            slow.append(str(found["hands"]))
    if slow:
        raise BacklineError(
            f"over {BAR_SECONDS:.0f} s or {BAR_MB} MB with hands: {', '.join(slow)}"
        )


def _overhead(hosts: int, threads: bool, profile: bool) -> dict[str, Any]:
    """One measurement, in a child process of its own: memory counts from the start."""
    import json as encoder
    import sys

    from backline import places
    from backline.transport import local

    flags = [*(["--threads"] if threads else []), *(["--profile"] if profile else [])]
    argv = [sys.executable, "tests/bench/rollout_overhead.py", "--hosts", str(hosts), *flags]
    done = local.run(argv, cwd=places.root(), env={"PYTHONPATH": str(places.root())})
    if done.code:
        raise BacklineError("the measurement failed", state=done.stderr[-1500:])
    if profile:
        say(done.stderr)
    found: dict[str, Any] = encoder.loads(done.stdout)
    return {"schema_version": 1, "bench": "rollout", **found, "machine": machine()}


def _stock(folder: Path) -> dict[str, str]:
    """Ansible's defaults: of our settings only what it needs to find roles and read the inventory."""
    from backline import places

    config = folder / "ansible.cfg"
    config.write_text(
        f"[defaults]\nroles_path = {places.root() / 'roles'}\n"
        "inventory_ignore_patterns = known_hosts$, \\.pem$\n"
    )
    return {"ANSIBLE_CONFIG": str(config), "ANSIBLE_HOME": str(folder / "home")}


def _timed(argv: list[str], extra: dict[str, str]) -> float:
    """Seconds that a run took; BacklineError when it failed or had something to change."""
    import re
    import time

    from backline import places
    from backline.transport import local

    began = time.monotonic()
    done = local.run([local.tool(argv[0]), *argv[1:]], cwd=places.root(), env=extra)
    took = time.monotonic() - began
    changed = re.search(r"changed=[1-9]|\"event\": \"change\"", done.stdout)
    if done.code or changed:
        raise BacklineError(
            f"{argv[0]} {'had something to change' if changed else f'ended with {done.code}'}",
            state=(done.stderr or done.stdout)[-1500:],
            hint="build the lab first: fab provision --env ENV, until nothing changes",
        )
    return took


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    import platform

    return {
        "cpus": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


collection = Collection("bench", converge, fanout.fanout, rollout)
