"""The lab: a real fleet of Debian hosts on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks.command import command, say


@command(
    help={
        "size": "small (5 hosts), full (15), wide (10, eight for the app) or data (6); see lab/topology.yml",
        "env": "the lab's name, and its folder in inventory/",
        "index": "network 198.18.<index>.0/24 and ports moved up by 100 for each; default: a free one",
        "from_snapshot": "start from hosts kept by `inv lab.snapshot`",
        "image_from": "auto, packages (mmdebstrap) or registry (container build)",
    }
)
def up(
    c: Context,
    size: str = "small",
    env: str = "lab",
    index: int = -1,
    from_snapshot: str = "",
    image_from: str = "auto",
) -> None:
    """Make the fleet's hosts, or start those that are stopped; harmless when they are up."""
    from backline.lab import files, fleet, image, library, machine, snapshots

    started = time.monotonic()
    machine.ensure_podman(say)
    state = files.load(env)
    if state and state.size != size:
        raise BacklineError(
            f"lab {env!r} is there already, in size {state.size}",
            state="nothing was changed",
            hint=f"`inv lab.up --env {env} --size {state.size}` keeps it; `inv lab.down` removes it",
        )
    if from_snapshot:
        state, images = snapshots.restore(env, from_snapshot, state)
    else:
        name = image.ensure_image(say, image_from)
        if not machine.fitted():
            machine.fit(name, say)
        state = state or files.LabState(env, size, index if index >= 0 else files.free_index(env))
        images = {host.name: name for host in state.topology().hosts}
    fleet.check_ports(state.topology())
    files.save(state)
    fleet.up(state.topology(), images, files.folder(env), say)
    library.ensure(say)
    place = files.write_inventory(state)
    took = time.monotonic() - started
    say(f"lab {env!r} is up: {wording.hosts(len(state.topology().hosts))}, {took:.0f} s")
    say(f"next: ansible-playbook -i {os.path.relpath(place)} playbooks/site.yml")


@command(help={"env": "the lab's name", "images": "remove the hosts' image and all snapshots too"})
def down(c: Context, env: str = "lab", images: bool = False) -> None:
    """Remove the fleet's hosts, network, keys and inventory (the image stays for next time)."""
    from backline.lab import files, fleet, machine, snapshots

    machine.ensure_podman(say)
    count = fleet.down(env, say)
    files.forget(env)
    if images:
        snapshots.remove_images(say)
    say(f"lab {env!r} is gone ({wording.hosts(count)})" if count else f"there was no lab {env!r}")


@command(help={"env": "the lab's name", "json": "one JSON object per host on stdout"})
def status(c: Context, env: str = "lab", json: bool = False) -> None:
    """Show the fleet's hosts: state, address, ports, groups."""
    from backline.lab import files, fleet, machine

    machine.ensure_podman(say)
    state = files.require(env)
    states = fleet.states(env)
    rows = [
        {
            "schema_version": 1,
            "host": host.name,
            "state": states.get(host.name, "missing"),
            "address": host.address,
            "ports": {name: outer for name, (outer, _) in host.ports.items()},
            "groups": list(host.groups),
        }
        for host in state.topology().hosts
    ]
    _print(rows, json)
    if any(row["state"] != "running" for row in rows):
        raise BacklineError(
            "not every host is running",
            hosts=[str(row["host"]) for row in rows if row["state"] != "running"],
            hint=f"inv lab.up --env {env} --size {state.size}",
        )


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{'HOST':10}{'STATE':9}{'ADDRESS':14}{'127.0.0.1':32}GROUPS")
    for row in rows:
        ports = " ".join(f"{name}:{port}" for name, port in row["ports"].items())
        print(
            f"{row['host']:10}{row['state']:9}{row['address']:14}{ports:32}"
            f"{','.join(row['groups'])}"
        )


@command(
    positional=["host"],
    help={"host": "which host", "env": "the lab's name", "command": "run this, don't log in"},
)
def ssh(c: Context, host: str, env: str = "lab", command: str = "") -> None:
    """Log in to one host as its administrator."""
    from backline.lab import files

    state = files.require(env)
    found = [h for h in state.topology().hosts if h.name == host]
    if not found:
        names = ", ".join(h.name for h in state.topology().hosts)
        raise BacklineError(f"lab {env!r} has no host {host!r}", hint=f"it has: {names}")
    words = [
        "ssh",
        "-i",
        str(files.folder(env) / "ssh_key"),
        "-o",
        f"UserKnownHostsFile={files.INVENTORY / env / 'known_hosts'}",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        # A host that goes away, or comes up, under the connection must not hold it for ever.
        *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
        "-p",
        str(found[0].ssh_port),
        "backline@127.0.0.1",
        *([command] if command else []),
    ]
    sys.exit(subprocess.run(words, check=False).returncode)


@command(
    help={"name": "what to call the snapshot", "env": "the lab's name"},
)
def snapshot(c: Context, name: str = "provisioned", env: str = "lab") -> None:
    """Keep the hosts as they are now, for `inv lab.up --from-snapshot NAME`."""
    from backline.lab import files, machine, snapshots

    machine.ensure_podman(say)
    snapshots.take(files.require(env), name, say)
    say(f"kept as {name!r}: inv lab.up --from-snapshot {name}")


@command(help={"env": "the lab's name"})
def renew_secrets(c: Context, env: str = "lab") -> None:
    """Write new values of the application's secrets; playbooks/rotate_secrets.yml puts them to use."""
    from backline.lab import files, secrets

    files.require(env)
    secrets.renew_secrets(files.INVENTORY / env / "group_vars" / "all" / "secrets.yml")
    say(
        f"next, before anything else: ansible-playbook -i inventory/{env} playbooks/rotate_secrets.yml"
    )


collection = Collection("lab", up, down, status, ssh, snapshot, renew_secrets)
