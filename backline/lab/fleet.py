"""Makes, lists, snapshots and removes the hosts of a lab: podman containers with systemd and sshd."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backline import wording
from backline.errors import BacklineError
from backline.lab.machine import HOST_OPTIONS, Say, exists, podman, remove
from backline.lab.secrets import ssh_key
from backline.lab.topology import LabHost, Topology

AT_ONCE = 4
BOOT_SECONDS = 60
LABEL = "backline.lab"


def states(env: str) -> dict[str, str]:
    """The state podman reports for every host of lab `env`: {host: running|exited|created|…}."""
    listed = podman("ps", "-a", "--filter", f"label={LABEL}={env}", "--format", "json")
    prefix = f"backline-{env}-"
    return {
        entry["Names"][0].removeprefix(prefix): entry["State"]
        for entry in json.loads(listed or "[]")
    }


def check_ports(topology: Topology) -> None:
    """Raises BacklineError when a port that a host yet to be made publishes is taken here."""
    present = states(topology.env)
    taken = []
    for host in (host for host in topology.hosts if host.name not in present):
        for outer, _ in host.ports.values():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", outer))
                except OSError:
                    taken.append(f"{outer} ({host.name})")
    if taken:
        raise BacklineError(
            f"these ports of 127.0.0.1 are taken: {', '.join(taken)}",
            state="no host was made",
            hint="`ss -ltnp` shows who has them; end that program, "
            "or make the lab on other ports: `inv lab.up --index 1`",
        )


def up(topology: Topology, images: dict[str, str], folder: Path, say: Say) -> None:
    """Makes and starts every host of `topology` that is not running; returns when sshd answers on all.

    `images` names the image of each host; `folder` keeps the lab's keys (made when missing).
    """
    present = states(topology.env)
    new = [host for host in topology.hosts if host.name not in present]
    if not exists("network", topology.network):
        podman("network", "create", "--subnet", topology.subnet, topology.network)
    ssh_key(folder / "ssh_key", f"operator@{topology.env}")
    stopped = [h for h in topology.hosts if present.get(h.name, "running") != "running"]
    if new:
        say(f"making {wording.hosts(len(new))}: {', '.join(host.name for host in new)}")
    if stopped:
        say(f"starting {', '.join(host.name for host in stopped)}")

    def bring_up(host: LabHost) -> None:
        container = topology.container(host.name)
        if host in new:
            podman(*_create_command(topology, host, images[host.name]))
            podman("cp", "-", f"{container}:/", data=_identity(host, folder))
        podman("start", container)
        _wait_for_ssh(host, container)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(bring_up, topology.hosts))


def down(env: str, say: Say) -> int:
    """Removes every host and the network of lab `env`; returns how many hosts there were."""
    names = [f"backline-{env}-{host}" for host in states(env)]
    if names:
        say(f"removing {wording.hosts(len(names))}")
        remove(*names, grace=5)
    if exists("network", f"backline-{env}"):
        podman("network", "rm", f"backline-{env}")
    return len(names)


def commit(topology: Topology, snapshot: str, say: Say) -> dict[str, str]:
    """Stops the hosts, keeps each as an image, starts them again; returns {host: image}."""
    containers = [topology.container(host.name) for host in topology.hosts]
    say("stopping the hosts, so that what is kept is whole")
    podman("stop", "--time", "60", *containers)
    images = {}
    try:
        for host in topology.hosts:
            images[host.name] = f"localhost/backline-snapshot-{snapshot}:{host.name}"
            say(f"keeping {host.name}")
            podman("commit", "--quiet", topology.container(host.name), images[host.name])
    finally:
        podman("start", *containers)
    return images


def _create_command(topology: Topology, host: LabHost, image: str) -> list[str]:
    publish = [f"--publish=127.0.0.1:{outer}:{inner}/tcp" for outer, inner in host.ports.values()]
    return [
        "create",
        "--name",
        topology.container(host.name),
        "--label",
        f"{LABEL}={topology.env}",
        "--hostname",
        host.name,
        "--network",
        topology.network,
        "--ip",
        host.address,
        "--restart=always",  # one that reboots comes back, one that is killed or stopped does not
        *HOST_OPTIONS,
        *publish,
        image,
    ]


def host_key(folder: Path, host: str) -> Path:
    """Where the lab keeps the private host key of `host`."""
    return folder / "host_keys" / host


def _identity(host: LabHost, folder: Path) -> bytes:
    """What makes an image this host: its host key, who may log in, and a first /etc/hosts."""
    key = host_key(folder, host.name)
    public = ssh_key(key, f"root@{host.name}")
    operator = (folder / "ssh_key.pub").read_text(encoding="utf-8")
    hosts = f"127.0.0.1 localhost\n{host.address} {host.name}\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "etc/ssh/ssh_host_ed25519_key", key.read_text(encoding="utf-8"), 0o600)
        _add(archive, "etc/ssh/ssh_host_ed25519_key.pub", public + "\n", 0o644)
        _add(archive, "etc/hosts", hosts, 0o644)
        # podman hands everything to root; sshd reads the keys of a user in root's files too.
        _add(archive, "home/backline/.ssh", None, 0o755)
        _add(archive, "home/backline/.ssh/authorized_keys", operator, 0o644)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, text: str | None, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = mode, int(time.time())
    if text is None:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    else:
        content = text.encode()
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def _wait_for_ssh(host: LabHost, container: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", host.ssh_port), timeout=2) as connection:
                connection.settimeout(5)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise BacklineError(
        f"{host.name} did not answer SSH on 127.0.0.1:{host.ssh_port} within {BOOT_SECONDS} s",
        state="the other hosts are up",
        hint=f"`podman logs {container}` and `podman exec {container} journalctl -b` say why",
    )
