"""What is wrong with my machine, my keys, the inventory, the hosts; and what to do about each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks import operator
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.doctor import Finding, KeyFile
    from backline.transport.port import HostError

SECONDS = 25.0
AGENT_SECONDS = 5.0


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "local": "ask no host",
        "json": JSON_HELP,
    },
)
def doctor(
    c: Context, env: str = "", on: str = "", local: bool = False, json: bool = False
) -> None:
    """Look for what is wrong with this machine, keys, inventory and hosts, and say what to do.

    Changes nothing. Without --env and $BACKLINE_ENV it looks at this machine alone. The exit code is
    1 when anything is bad, 0 when there are only warnings.

    Examples:
        fab doctor
        fab doctor --env lab
        fab doctor --env production --on edge --json | jq 'select(.level != "ok")'
    """
    from backline import console

    count = {"ok": 0, "warn": 0, "bad": 0}
    for finding in _findings(env, on, local):
        count[finding.level] += 1
        if json:
            console.line(finding.as_json())
        else:
            console.show_finding(finding)
    if json:
        console.line({"schema_version": 1, "event": "doctor", **count})
    if count["bad"]:
        raise BacklineError(
            f"{count['bad']} of {sum(count.values())} checks are bad",
            state="nothing was changed",
            hint="what to do stands below each; then: fab doctor",
        )


def _findings(env: str, on: str, local: bool) -> Iterator[Finding]:
    """Every finding as it is made: what is near comes first, what takes long last."""
    from backline import inventory, places
    from backline.operations import doctor as judge

    yield judge.python(sys.version_info[:3])
    yield from judge.tools({name: _program(name) for name in judge.TOOLS})
    yield judge.room(str(places.root()), shutil.disk_usage(places.root()).free)
    variable = os.environ.get("BACKLINE_ENV", "")
    yield judge.chosen(variable, env, inventory.environments())
    if not env and variable not in inventory.environments():
        return
    try:
        fleet = environment(env)
    except BacklineError as error:
        said = f"{error.message}: {error.state}" if error.state else error.message
        yield judge.Finding("inventory", judge.BAD, said, error.hint)
        return
    said = f"{fleet.name}: {wording.hosts(len(fleet.hosts))} in {len(fleet.groups)} groups"
    yield judge.Finding("inventory", judge.OK, said)
    yield from _of_environment(fleet)
    if not local:
        yield from _of_hosts(fleet, on)


def _program(name: str) -> bool:
    beside = Path(sys.executable).with_name(name)
    return beside.exists() or shutil.which(name) is not None


def _of_environment(fleet: Environment) -> Iterator[Finding]:
    from backline.operations import doctor as judge
    from backline.tasks.provision import killed

    named = dict.fromkeys(host.key_file for host in fleet.hosts.values() if host.key_file)
    yield from judge.keys([_key_file(Path(path)) for path in named], _agent())
    yield judge.signing(*_signing_key(), fleet.allowed_signers)
    yield _pinned(fleet)
    yield judge.unended(killed(fleet))
    yield _variables(fleet)


def _key_file(path: Path) -> KeyFile:
    """What is there under the name of a private key."""
    import paramiko

    from backline.operations.doctor import KeyFile

    try:
        mode = path.stat().st_mode
    except OSError:
        return KeyFile(str(path), None)
    try:
        paramiko.PKey.from_path(path)
    # Of OpenSSH's own format cryptography says it by a TypeError, which paramiko hands on.
    except (paramiko.PasswordRequiredException, TypeError):
        return KeyFile(str(path), mode, "passphrase")
    except Exception as error:  # whatever paramiko finds in a file that is no key
        return KeyFile(str(path), mode, str(error) or type(error).__name__)
    return KeyFile(str(path), mode)


def _agent() -> int | None:
    """How many keys the SSH agent has; None when there is none."""
    from backline.transport import local

    if not os.environ.get("SSH_AUTH_SOCK"):
        return None
    try:
        done = local.run(["ssh-add", "-l"], deadline=AGENT_SECONDS)
    except BacklineError:
        return None
    return len(done.stdout.splitlines()) if done.code == 0 else 0 if done.code == 1 else None


def _signing_key() -> tuple[str, str]:
    """The key that releases are signed with, and its public half; "" when there is none."""
    from backline import places

    path = Path(os.environ.get("BACKLINE_SIGNING_KEY") or places.signing_key())
    try:
        words = path.with_name(f"{path.name}.pub").read_text(encoding="utf-8").split()
    except OSError:
        return str(path), ""
    return str(path), words[1] if path.exists() and len(words) > 1 else ""


def _pinned(fleet: Environment) -> Finding:
    from backline.operations import doctor as judge
    from backline.operations import trust
    from backline.transport.host_keys import name_of

    try:
        text = fleet.known_hosts.read_text(encoding="utf-8")
    except OSError:
        text = ""
    missing = trust.missing(
        text, {name: name_of(host.address, host.port) for name, host in fleet.hosts.items()}
    )
    return judge.pinned(str(fleet.known_hosts), missing, len(fleet.hosts), fleet.name)


def _variables(fleet: Environment) -> Finding:
    """The roles' own check of the variables; at once when nothing has changed since it passed."""
    from backline.operations import doctor as judge
    from backline.tasks.provision import check_variables

    try:
        check_variables(fleet)
    except BacklineError as error:
        return judge.Finding("variables", judge.BAD, error.message, error.hint)
    return judge.Finding("variables", judge.OK, "the roles take all of them")


def _of_hosts(fleet: Environment, on: str) -> Iterator[Finding]:
    from backline import selection
    from backline.hostctl import VERSION
    from backline.operations import doctor as judge
    from backline.transport.port import HostError

    selected = selection.select(fleet, on or selection.EVERYTHING)
    answers = _ask(fleet, selected)
    yield from judge.reached(answers)
    facts = {host: told for host, told in answers.items() if not isinstance(told, HostError)}
    yield from judge.clocks({host: told["skew"] for host, told in facts.items()})
    yield from judge.programs(facts, VERSION)
    yield from judge.disks(facts)


def _ask(fleet: Environment, selected: list[str]) -> dict[str, dict[str, Any] | HostError]:
    """The facts of each host, with how far its clock is off ours; or the error in their place."""
    clock = operator.clock()
    with reach(fleet) as hosts:

        def work(host: str) -> dict[str, Any]:
            # The first call connects; only then does the way there and back tell little of the clock.
            hosts.call(host, "facts", {}, deadline=SECONDS)
            before = clock.time()
            facts = hosts.call(host, "facts", {}, deadline=SECONDS)
            return {**facts, "skew": float(facts["time"]) - (before + clock.time()) / 2}

        outcomes = hosts.each(selected, work, deadline=SECONDS)
    found: dict[str, dict[str, Any] | HostError] = {}
    for host, outcome in outcomes.items():
        if outcome.error is not None:
            found[host] = outcome.error
        elif outcome.value is not None:
            found[host] = outcome.value
    return found
