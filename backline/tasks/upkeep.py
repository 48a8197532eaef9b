"""Restarts, reboots and upgrades, host by host: by playbooks/patch.yml, which knows how each kind goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    YES_HELP,
    confirm,
    environment,
    operation,
    required,
    several,
)

UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_-]*")
OURS = {"application": "app", "postgresql": "patroni", "rabbitmq": "rabbitmq-server"}
"""What people call a service, and what runs it."""
TRANSFERS_MOST = 3600
"""As long as a host's lease can be taken for."""
REBOOTS = ("auto", "never", "always")
ON = "hosts, an Ansible pattern: streaming:&zone_a:!stream3"
HELP = {
    "env": ENV_HELP,
    "outage": "go on though it is the only one of its kind",
    "transfers": "seconds that downloads get to end before a reboot, 3600 at most",
    "stock": "without mitogen: Ansible's own strategy and SSH",
    "dry_run": "look at the hosts and tell what would be done where; changes nothing",
    "json": JSON_HELP,
    "yes": YES_HELP,
}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the flags say that all three share: their HELP says what each means."""

    outage: bool
    transfers: int
    stock: bool
    dry_run: bool
    json: bool
    yes: int

    def carry_out(self, doing: str, env: str, on: str, **variables: Any) -> None:
        """Runs the playbook with these variables; in check mode, which asks nobody, for a dry run.

        `doing`: what people call it.
        """
        import json

        from backline import selection
        from backline.tasks import provision
        from backline.tasks.converging import View

        fleet = environment(env)
        hosts = selection.select(fleet, required(fleet, on))
        if not 0 <= self.transfers <= TRANSFERS_MOST:
            raise BacklineError(
                f"--transfers is a number of seconds, {TRANSFERS_MOST} at most",
                state="nothing was changed",
            )
        extra = {
            **variables,
            "patch_hosts": ",".join(hosts),
            "patch_outage": self.outage,
            "patch_transfer_timeout": self.transfers,
        }
        view = View(self.json, diff=False)
        view.start("patch", fleet.name, hosts, self.dry_run, doing)
        if not self.dry_run:
            confirm(fleet, len(hosts), self.yes, self.json)
        options = ["-e", json.dumps(extra), *["--check"] * self.dry_run]
        recap, ended = provision.run(fleet, "patch", options, self.stock, view)
        view.summary(recap, self.dry_run)
        provision.judge(recap, ended, self.dry_run, pending=False)


@operation(
    help={
        "on": ON,
        "service": "units, comma-separated, restarted where they run, try to or have failed; `app`: the "
        "application (default: what each host is there for)",
        **HELP,
    }
)
def restart(
    c: Context,
    env: str = "",
    on: str = "",
    service: str = "",
    outage: bool = False,
    transfers: int = 3600,
    stock: bool = False,
    dry_run: bool = False,
    json: bool = False,
    yes: int = 0,
) -> None:
    """Restart services host by host: drained, restarted, healthy, back; a leader hands over first.

    Replicas go before the leader, a broker or an etcd member never while a majority depends on it,
    workers when they have finished their jobs. It stops at the first host that is not healthy
    afterwards; the same command goes on there. What has failed, or dies over and over, is started too, be
    it the application or another unit; one that is merely stopped is left so. docs/how-to/restart.md

    Examples:
        fab restart --env production --on stream1 --dry-run
        fab restart --env production --on streaming
        fab restart --env production --on all --service chrony
    """
    units = several(service, "--service")
    bad = [unit for unit in units if not UNIT.fullmatch(unit)]
    if bad:
        raise BacklineError(
            f"not the name of a unit: {', '.join(bad)}",
            state="nothing was changed",
            hint="--service nginx, or --service app for the application",
        )
    wanted = [OURS.get(unit, unit) for unit in units] or ["main"]
    rules = Rules(
        outage=outage, transfers=transfers, stock=stock, dry_run=dry_run, json=json, yes=yes
    )
    doing = f"restart {', '.join(units)} on" if units else "restart"
    rules.carry_out(
        doing, env, on, patch_packages=False, patch_reboot="never", patch_restart=wanted
    )


@operation(help={"on": ON, **HELP})
def reboot(
    c: Context,
    env: str = "",
    on: str = "",
    outage: bool = False,
    transfers: int = 3600,
    stock: bool = False,
    dry_run: bool = False,
    json: bool = False,
    yes: int = 0,
) -> None:
    """Reboot hosts one by one: drained, handed over, its last download ended; healthy before the next.

    It stops at the first host that is not healthy afterwards; the same command goes on there.

    Examples:
        fab reboot --env production --on 'edge,media' --dry-run
        fab reboot --env production --on stream2
    """
    rules = Rules(
        outage=outage, transfers=transfers, stock=stock, dry_run=dry_run, json=json, yes=yes
    )
    rules.carry_out("reboot", env, on, patch_packages=False, patch_reboot="always")


@operation(
    help={
        "on": ON,
        "everything": "whatever has an upgrade, not just security",
        "reinstall": "packages, comma-separated, to install again where they are installed",
        "reboots": "auto: when needed and another host of its kind serves; never; always",
        **HELP,
    },
    choices={"reboots": REBOOTS},
)
def patch(
    c: Context,
    env: str = "",
    on: str = "",
    everything: bool = False,
    reinstall: str = "",
    reboots: str = "auto",
    outage: bool = False,
    transfers: int = 3600,
    stock: bool = False,
    dry_run: bool = False,
    json: bool = False,
    yes: int = 0,
) -> None:
    """Bring security upgrades in host by host, reboots included. docs/how-to/patch.md

    Each host is drained, upgraded to the versions that were shown, brought up to date, rebooted if it has
    to be, and healthy before the next one. It stops at the first that is not; the same command goes on.

    Examples:
        fab patch --env production --on 'all:!database:!broker' --dry-run
        fab patch --env production --on 'database:broker'
        fab patch --env production --on streaming --reboots never
    """
    if reboots not in REBOOTS:
        raise BacklineError("--reboots is auto, never or always", state="nothing was changed")
    rules = Rules(
        outage=outage, transfers=transfers, stock=stock, dry_run=dry_run, json=json, yes=yes
    )
    again = several(reinstall, "--reinstall")
    rules.carry_out(
        "patch", env, on, patch_all=everything, patch_reinstall=again, patch_reboot=reboots
    )
