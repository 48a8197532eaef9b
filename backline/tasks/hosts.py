"""The hosts of an environment: who they are, and which keys they are known by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks.command import say
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    YES_HELP,
    environment,
    insist,
    operation,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backline.inventory import Environment
    from backline.operations.trust import Key, Offer
    from backline.transport.port import HostError

SECONDS = 60.0
"""For all handshakes of a host; each has a limit of its own."""
WIDTH = 16


@operation(
    name="list",
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "fold": "one line for each group, its hosts folded",
        "json": JSON_HELP,
    },
)
def list_(c: Context, env: str = "", on: str = "", fold: bool = False, json: bool = False) -> None:
    """List hosts: where SSH and the fleet find them, their zones and groups. Asks none of them.

    The way to see what a pattern means before it is used with a command that changes something.

    Examples:
        fab hosts.list --env lab
        fab hosts.list --env production --on 'streaming:&zone_a' --fold
    """
    from backline import console, selection
    from backline.console.words import listed

    fleet = environment(env)
    names = selection.select(fleet, on or selection.EVERYTHING)
    if json:
        for name in names:
            host = fleet.hosts[name]
            console.line(
                {
                    "schema_version": 1,
                    "event": "host",
                    "host": name,
                    "address": host.address,
                    "port": host.port,
                    "user": host.user,
                    "fleet_address": host.fleet_address,
                    "zone": host.zone,
                    "groups": host.groups,
                }
            )
        return
    if fold:
        chosen = set(names)
        groups = {group: [h for h in own if h in chosen] for group, own in fleet.groups.items()}
        console.show_groups({group: own for group, own in groups.items() if own})
    else:
        console.show_hosts(_row(fleet, name) for name in names)
    say(f"{wording.hosts(len(names))}: {listed(names)}")


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "replace": "also take keys that differ from those that are pinned",
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
    }
)
def trust(
    c: Context,
    env: str = "",
    on: str = "",
    replace: bool = False,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
) -> None:
    """Pin the host keys of hosts in known_hosts, after showing their fingerprints. Always asks.

    Compare each with what the host itself says, on its console or in the cloud's log of its first
    boot: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Nobody logs in. If any key differs from
    the one that is pinned, nothing is written and the exit code is 6: somebody may stand in between.
    --replace takes the new one, for a host that was rebuilt; never a key of a line marked @revoked. A
    host that does not answer makes the exit code 1; the others are written.

    Examples:
        fab hosts.trust --env staging --dry-run
        fab hosts.trust --env production --on stream7 --replace
    """
    from backline import console, selection
    from backline.operations import trust as keyring
    from backline.transport import host_keys

    fleet = environment(env)
    selected = selection.select(fleet, on or selection.EVERYTHING)
    before = _read(fleet)
    offers, silent = _offers(fleet, selected)
    keys = keyring.compare(before, offers, _revoked(fleet, before, offers))
    if json:
        for key in keys:
            console.line(key.as_json())
    else:
        console.show_keys(keys)
    _refuse_revoked(keys)
    _refuse_changed(keys, replace)
    news = list(dict.fromkeys(key.host for key in keys if key.state != keyring.PINNED))
    if news and not dry_run:
        insist(fleet, len(news), yes, json)
        if _read(fleet) != before:
            raise BacklineError(
                f"{fleet.known_hosts} was changed meanwhile",
                state="nothing was written",
                hint="say it again",
            )
        host_keys.write(fleet.known_hosts, keyring.merged(before, offers, keys))
        say(f"{fleet.known_hosts}: keys of {wording.hosts(len(news))} were written")
    elif not news and offers:
        say(f"pinned with the keys that they show: {wording.hosts(len(offers))}; nothing to write")
    if json:
        written = [] if dry_run else news
        console.line({"schema_version": 1, "event": "trusted", "hosts": written})
    _refuse_silent(silent)


def _row(fleet: Environment, name: str) -> tuple[str, ...]:
    """A host's cells; its zone has a column, so that the zone's group is left out."""
    host = fleet.hosts[name]
    address = host.address if host.port == 22 else f"{host.address}:{host.port}"
    groups = [group for group in host.groups if group != f"zone_{host.zone}"]
    return name, address, host.fleet_address or "", host.zone or "", ", ".join(groups)


def _read(fleet: Environment) -> str:
    try:
        return fleet.known_hosts.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _offers(
    fleet: Environment, selected: Sequence[str]
) -> tuple[list[Offer], dict[str, HostError]]:
    """What each host offers, and the errors of those that do not answer."""
    from backline.operations.trust import Offer
    from backline.transport import host_keys, pool

    def work(host: str) -> Offer:
        return Offer(host, *host_keys.offered(fleet.hosts[host], fleet.known_hosts))

    outcomes = pool.each(selected, work, deadline=SECONDS, width=WIDTH)
    offers = [outcome.value for outcome in outcomes.values() if outcome.value is not None]
    return offers, {h: o.error for h, o in outcomes.items() if o.error is not None}


def _revoked(fleet: Environment, text: str, offers: Sequence[Offer]) -> dict[str, set[str]]:
    """Which keys known_hosts forbids which host, under the name it is known by there."""
    from backline.transport import pins

    found = pins.Pins(text)
    places = {offer.host: offer.place for offer in offers}
    named = {host: place.removeprefix("[").partition("]:") for host, place in places.items()}
    return {
        host: found.revoked(address, int(port) if port else pins.SSH_PORT)
        for host, (address, _, port) in named.items()
    }


def _refuse_revoked(keys: Sequence[Key]) -> None:
    from backline.operations.trust import REVOKED

    revoked = list(dict.fromkeys(key.host for key in keys if key.state == REVOKED))
    if revoked:
        raise BacklineError(
            f"{', '.join(revoked)} SHOWS A HOST KEY THAT IS REVOKED in known_hosts",
            hosts=revoked,
            state="nothing was written",
            hint="whoever has that key may be somebody else. Give the host a new one on its console "
            "(ssh-keygen -A makes those that are missing), then say it again",
            exit_code=Exit.GUARD_REFUSED,
        )


def _refuse_changed(keys: Sequence[Key], replace: bool) -> None:
    from backline.operations.trust import CHANGED

    changed = list(dict.fromkeys(key.host for key in keys if key.state == CHANGED))
    if changed and not replace:
        raise BacklineError(
            f"THE HOST KEY OF {', '.join(changed)} IS NOT THE ONE THAT IS PINNED",
            hosts=changed,
            state="nothing was written",
            hint="somebody may stand in between. If the host was rebuilt, compare the fingerprint on "
            "its console, then add --replace",
            exit_code=Exit.GUARD_REFUSED,
        )


def _refuse_silent(silent: dict[str, HostError]) -> None:
    if silent:
        raise BacklineError(
            wording.said(silent.values()),
            hosts=silent,
            state="no key of theirs was written",
            hint="fab hosts.trust again, when they answer",
        )


collection = Collection("hosts")
collection.add_task(list_)
collection.add_task(trust)
