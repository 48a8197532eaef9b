"""What is wrong with a machine that operates a fleet, with its keys, and with the fleet. Pure.

Each judge takes what was seen and returns findings: one line each, and what to do about it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from backline import wording
from backline.rollout.preflight import CLOCK_SECONDS, PROTOCOL
from backline.selection import fold
from backline.transport.port import KEY_UNKNOWN, HostError

OK, WARN, BAD = "ok", "warn", "bad"
PYTHON = (3, 11)
GIBIBYTE = 1 << 30
TOOLS = {
    "ssh": (BAD, "openssh-client", "Ansible connects with it"),
    "ssh-keygen": (BAD, "openssh-client", "releases are signed and verified with it"),
    "zstd": (BAD, "zstd", "releases are packed with it"),
    "git": (BAD, "git", "a release names the commit that it was built from"),
    "ssh-agent": (WARN, "openssh-client", "it keeps keys that have a passphrase"),
    "uv": (WARN, "", "contributors lock dependencies with it: `make` installs it"),
}
"""How bad it is when a program is missing, Debian's package, what it is for."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `hint` is what to do, empty when it is ok."""

    check: str
    level: str
    says: str
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": 1, "event": "check", **vars(self)}


@dataclass(frozen=True)
class KeyFile:
    """A private key of the inventory as it was found: `mode` None when it is not there.

    `kind`: `plain`, `passphrase`, or why it cannot be used.
    """

    path: str
    mode: int | None
    kind: str = "plain"


def python(version: Sequence[int]) -> Finding:
    said = ".".join(map(str, version[:3]))
    if tuple(version[:2]) < PYTHON:
        hint = "PYTHON=/path/to/python3.11 make"
        return Finding("python", BAD, f"{said}; 3.11 or newer is needed", hint)
    return Finding("python", OK, said)


def tools(found: Mapping[str, bool]) -> list[Finding]:
    """One finding for all programs that are there, one for each that is not."""
    there = [name for name in TOOLS if found.get(name)]
    missing = [
        Finding(
            "programs",
            level,
            f"there is no {name}: {purpose}",
            f"apt-get install {package}" if package else "make",
        )
        for name, (level, package, purpose) in TOOLS.items()
        if not found.get(name)
    ]
    return [*([Finding("programs", OK, ", ".join(there))] if there else []), *missing]


def room(name: str, free: int) -> Finding:
    """The disk of this machine."""
    said = f"{free / GIBIBYTE:.1f} GiB free for {name}"
    if free < GIBIBYTE // 10:
        return Finding("disk", BAD, said, "make room: journals of runs must be written")
    if free < GIBIBYTE:
        return Finding("disk", WARN, said, "old releases lie in dist/, caches in .cache/")
    return Finding("disk", OK, said)


def chosen(variable: str, flag: str, known: Sequence[str]) -> Finding:
    """Which environment commands go to without --env."""
    names = ", ".join(known) or "none: `inv lab.up` or `inv env.new` makes one"
    if variable and variable not in known:
        hint = f"export BACKLINE_ENV=NAME; environments: {names}"
        return Finding("BACKLINE_ENV", BAD, f"it names {variable!r}, which does not exist", hint)
    if variable and flag and variable != flag:
        hint = f"every command without --env goes to {variable}"
        return Finding("BACKLINE_ENV", WARN, f"it names {variable}, not {flag}", hint)
    if not variable:
        said = f"it is not set: each command needs --env; environments: {names}"
        return Finding("BACKLINE_ENV", OK, said)
    return Finding("BACKLINE_ENV", OK, variable)


def keys(found: Sequence[KeyFile], agent: int | None) -> list[Finding]:
    """The private keys that the inventory names; `agent`: keys that the SSH agent has, None without one."""
    findings = [_key(key, agent) for key in found]
    if not found:
        if agent:
            return [Finding("key", OK, f"the inventory names none; {agent} in the SSH agent")]
        hint = "ssh-add KEY, or name it in the inventory: ansible_ssh_private_key_file"
        said = "the inventory names none, and the SSH agent has none; ~/.ssh is tried"
        return [Finding("key", WARN, said, hint)]
    return findings


def _key(key: KeyFile, agent: int | None) -> Finding:
    if key.mode is None:
        hint = (
            "the inventory's ansible_ssh_private_key_file names it; a lab's is made by `inv lab.up`"
        )
        return Finding("key", BAD, f"there is no {key.path}", hint)
    if stat.S_IMODE(key.mode) & 0o077:
        said = f"{key.path} may be read by others (mode {stat.S_IMODE(key.mode):04o})"
        return Finding("key", BAD, f"{said}: ssh refuses it", f"chmod 600 {key.path}")
    if key.kind == "plain":
        return Finding("key", OK, key.path)
    if key.kind != "passphrase":
        hint = "is it the private half?"
        return Finding("key", BAD, f"{key.path} cannot be used: {key.kind}", hint)
    if not agent:
        return Finding(
            "key",
            BAD,
            f"{key.path} has a passphrase, and no SSH agent has it",
            f"ssh-add {key.path}",
        )
    return Finding("key", OK, f"{key.path}, by the SSH agent")


def signing(path: str, public: str, signers: Iterable[str]) -> Finding:
    """Whether releases that are signed here are accepted there; `public`: the key's blob, "" for none."""
    if not public:
        hint = "releases of others can be deployed all the same; $BACKLINE_SIGNING_KEY names one"
        return Finding("signing key", WARN, f"there is no {path}: nothing can be signed here", hint)
    if any(public in line for line in signers):
        return Finding("signing key", OK, path)
    return Finding(
        "signing key",
        WARN,
        f"the hosts do not accept what {path} signs",
        "add its .pub to release_signers in the inventory, then: fab provision --tags hostctl",
    )


def unended(killed: str) -> Finding:
    """Whether the last run of Ansible from this checkout came to its end; `killed` tells of it, if not."""
    if not killed:
        return Finding(
            "runs", OK, "the last provision, patch, restart or reboot from here has ended"
        )
    hint = "the same command goes on; fab status shows hosts that it left drained"
    return Finding("runs", WARN, killed, hint)


def pinned(place: str, missing: Sequence[str], count: int, env: str) -> Finding:
    """Whether every host has a key in known_hosts."""
    if not missing:
        return Finding("known_hosts", OK, f"{count} of {wording.hosts(count)} pinned")
    hint = f"fab hosts.trust --env {env} --on '{fold(missing)}'"
    said = f"{place} has no key of {fold(missing)}: nothing connects to them"
    return Finding("known_hosts", BAD, said, hint)


def reached(answers: Mapping[str, Mapping[str, Any] | HostError]) -> list[Finding]:
    """Who answers, and why the others do not: a line for each reason."""
    errors = {host: answer for host, answer in answers.items() if isinstance(answer, HostError)}
    well = [host for host in answers if host not in errors]
    findings = [Finding("hosts", OK, f"{fold(well)} answer")] if well else []
    by_code: dict[str, list[HostError]] = {}
    for error in errors.values():
        by_code.setdefault(error.code, []).append(error)
    for code, alike in by_code.items():
        first = alike[0]
        hint = first.hint
        if code == KEY_UNKNOWN and "hosts.trust" in hint:  # which pins no jump host
            hint = "fab hosts.trust compares and pins"
        more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        said = f"{fold(error.host for error in alike)}: {first.message}{more}"
        findings.append(Finding("hosts", BAD, said, hint or "is it up? is there a way to it?"))
    return findings


def clocks(skews: Mapping[str, float]) -> list[Finding]:
    """Whose clock is off; when most are, by the same, it is ours."""
    off = {host: skew for host, skew in skews.items() if abs(skew) > CLOCK_SECONDS}
    if not skews:
        return []
    if not off:
        worst = max(skews.values(), key=abs)
        return [Finding("clocks", OK, f"at most {abs(worst):.1f} s off ours")]
    middle = median(skews.values())
    if len(skews) > 2 and abs(middle) > CLOCK_SECONDS:
        said = f"this machine's clock is {-middle:+.0f} s off the fleet's"
        return [Finding("clocks", BAD, said, "timedatectl; deploys are refused until it is right")]
    said = ", ".join(f"{host} {skew:+.0f} s" for host, skew in off.items())
    return [Finding("clocks", BAD, f"off ours: {said}", "on these hosts: chronyc tracking")]


def programs(facts: Mapping[str, Mapping[str, Any]], ours: str) -> list[Finding]:
    """The hosts' hostctl against this checkout's."""
    strange = [host for host, told in facts.items() if int(told.get("protocol") or 0) != PROTOCOL]
    found: dict[str, list[str]] = {}
    for host, told in facts.items():
        if host not in strange:
            found.setdefault(str(told.get("hostctl")), []).append(host)
    findings = []
    if strange:
        said = f"{fold(strange)} speak another protocol than we do"
        findings.append(Finding("hostctl", BAD, said, "fab provision --tags hostctl, or git pull"))
    for version, hosts in sorted(found.items()):
        said = f"{version} on {fold(hosts)}"
        if version == ours:
            findings.append(Finding("hostctl", OK, said))
        elif _numbers(version) < _numbers(ours):
            hint = "the next deploy brings it up to date; at once: fab provision --tags hostctl"
            findings.append(Finding("hostctl", WARN, f"{said}; ours is {ours}", hint))
        else:
            hint = "this checkout is older than the fleet: git pull"
            findings.append(Finding("hostctl", WARN, f"{said}; ours is {ours}", hint))
    return findings


def disks(facts: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Room for releases on the hosts that have an app."""
    free = {host: int(told["disk_free"]) for host, told in facts.items() if told.get("disk_free")}
    low = [host for host, left in free.items() if left < GIBIBYTE]
    if low:
        said = f"less than 1 GiB for /srv on {fold(low)}"
        return [Finding("disks", WARN, said, "docs/runbooks/disk-almost-full.md")]
    if not free:
        return []
    return [Finding("disks", OK, f"at least {min(free.values()) / GIBIBYTE:.0f} GiB for /srv")]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
