"""What can go wrong with a data tier, for real, each undone by the end of its `with`; `mend` undoes all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from backline.errors import BacklineError
from backline.lab.machine import podman
from tests.data.cluster import inside
from tests.live import Fleet

WAYS = {"in": ("input", "iifname", "saddr"), "out": ("output", "oifname", "daddr")}
CUT = "fault"


@contextlib.contextmanager
def killed(fleet: Fleet, host: str) -> Iterator[None]:
    """The host loses its power, and has it again at the end."""
    podman("kill", fleet.container(host))
    try:
        yield
    finally:
        podman("start", fleet.container(host))


@contextlib.contextmanager
def stopped(fleet: Fleet, *hosts: str) -> Iterator[None]:
    """Several hosts lose their power at once."""
    containers = [fleet.container(host) for host in hosts]
    podman("kill", *containers)
    try:
        yield
    finally:
        podman("start", *containers)


@contextlib.contextmanager
def cut(
    fleet: Fleet, host: str, ways: Sequence[str] = ("in", "out"), others: Sequence[str] = ()
) -> Iterator[None]:
    """No packet gets into the host, or out of it, or both; from and to `others` alone if there are any."""
    chains = []
    for way in ways:
        hook, interface, address = WAYS[way]
        peers = ", ".join(fleet.address(other) for other in others)
        which = f"ip {address} {{ {peers} }}" if peers else f'{interface} != "lo"'
        chains.append(f"chain {hook} {{\ntype filter hook {hook} priority -300\n{which} drop\n}}")
    table = f"table inet {CUT} {{\n" + "\n".join(chains) + "\n}"
    inside(fleet, host, "nft", table)  # in one transaction
    try:
        yield
    finally:
        inside(fleet, host, "nft", f"delete table inet {CUT}")


@contextlib.contextmanager
def frozen(fleet: Fleet, unit: str, *hosts: str) -> Iterator[None]:
    """A unit's main process stands still (SIGSTOP): its connections stay open, nobody answers."""
    for host in hosts:
        _signal(fleet, host, unit, "STOP")
    try:
        yield
    finally:
        for host in hosts:
            _signal(fleet, host, unit, "CONT")


@contextlib.contextmanager
def away(fleet: Fleet, unit: str, *hosts: str) -> Iterator[None]:
    """A unit is stopped."""
    for host in hosts:
        inside(fleet, host, "systemctl", "stop", unit)
    try:
        yield
    finally:
        for host in hosts:
            inside(fleet, host, "systemctl", "start", unit)


def _signal(fleet: Fleet, host: str, unit: str, name: str) -> None:
    inside(fleet, host, "systemctl", "kill", "--kill-whom=main", f"--signal={name}", unit)


class Disk:
    """A folder of a host on a file system of its own, in memory, that can be filled and emptied.

    Who writes there (`units`) is stopped while files move, at the beginning and at the end; what was
    written meanwhile is kept. `beside`: where the file system goes if the folder is to be a link to it,
    because its owner may want to replace the folder, and nobody can replace what is mounted.
    """

    def __init__(
        self, fleet: Fleet, host: str, folder: str, *, spare: int, units: str, beside: str = ""
    ) -> None:
        self.fleet, self.host, self.folder = fleet, host, folder
        self.spare, self.units, self.beside = spare, units, beside
        self.place = beside or folder
        self.kept = f"/var/tmp/fault-kept-{folder.rpartition('/')[2]}"

    def __enter__(self) -> Disk:
        move = (
            f"mv {self.folder} {self.kept}.old; ln -s {self.place}/files {self.folder}"
            if self.beside
            else "true"
        )
        into = f"{self.place}/files" if self.beside else self.place
        self._shell(
            f"systemctl stop {self.units}; rm -rf {self.kept} {self.kept}.old; "
            f"cp -a {self.folder} {self.kept}; mkdir -p {self.place}; "
            f"size=$(( $(du -sm {self.kept} | cut -f1) + {self.spare} )); "
            f"mount -t tmpfs -o mode=750,size=${{size}}m tmpfs {self.place}; "
            f"chown --reference={self.kept} {self.place}; "
            f"mkdir -p {into}; cp -aT {self.kept} {into}; {move}; "
            f"rm -rf {self.kept}; systemctl start {self.units}"
        )
        return self

    def __exit__(self, *_: object) -> None:
        script = f"rm -f {self.place}/ballast; systemctl stop {self.units}; "
        if self.beside:
            # Its owner may have made it anew meanwhile, as a folder: then that is what there is.
            script += (
                f"if [ -L {self.folder} ]; then rm {self.folder}; "
                f"cp -aT {self.place}/files {self.folder}; fi; "
                f"umount -l {self.place}; rmdir {self.place}; rm -rf {self.kept}.old; "
            )
        else:
            script += (
                f"cp -aT {self.place} {self.kept}; umount -l {self.place}; "
                f"find {self.place} -mindepth 1 -delete; cp -aT {self.kept} {self.place}; "
                f"rm -rf {self.kept}; "
            )
        self._shell(script + f"systemctl start {self.units}")

    def fill(self) -> None:
        """To the last byte."""
        self._shell(f"dd if=/dev/zero of={self.place}/ballast bs=64k status=none || true")

    def empty(self) -> None:
        """The cause is gone."""
        self._shell(f"rm -f {self.place}/ballast")

    def _shell(self, script: str) -> None:
        inside(self.fleet, self.host, "sh", "-ec", script, timeout=300)


def mend(fleet: Fleet) -> None:
    """Undoes whatever a test that failed left behind. Harmless on a fleet that is whole."""
    paused = podman("ps", "--filter", "status=paused", "--format", "{{.Names}}").split()
    units = {"database": "etcd patroni pgbouncer", "broker": "rabbitmq-server"}
    for group, names in units.items():
        for host in fleet.hosts(group):
            if fleet.container(host) in paused:
                podman("unpause", fleet.container(host))
            podman("start", fleet.container(host))
            script = (
                f"nft delete table inet {CUT} 2>/dev/null; "
                f"systemctl kill --kill-whom=main --signal=CONT {names} 2>/dev/null; "
                f"systemctl start {names} || true"
            )
            with contextlib.suppress(BacklineError):
                inside(fleet, host, "sh", "-c", script, timeout=180)
