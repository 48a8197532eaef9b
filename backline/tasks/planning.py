"""From what an operator typed to a plan: the release, the hosts, their answers, the rules."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backline.errors import BacklineError, Exit
from backline.tasks import operator
from backline.tasks.rolling import Options

if TYPE_CHECKING:
    from pathlib import Path

    from backline.inventory import Environment
    from backline.release.store import Stored
    from backline.rollout.plan import Plan
    from backline.rollout.preflight import Look
    from backline.transport.fleet import SshFleet

ORIGIN = "BACKLINE_ORIGIN"


@dataclass(frozen=True)
class Wish:
    """What a deploy was asked to do; saved with its plan, so that it can be asked again."""

    release: str
    on: str = ""
    rules: Mapping[str, str] | None = None
    quarantine: str = ""
    accept_schema: bool = False
    whole: bool = False
    skip_local_check: bool = False


def deploy(
    fleet: Environment,
    hosts: SshFleet,
    wish: Wish,
    ignore_quarantine: bool = False,
    dry: bool = False,
) -> tuple[Plan, Options]:
    """The plan of a deploy, and what its run needs. Raises BacklineError when it must not be."""
    from backline import places, selection
    from backline.release import store
    from backline.rollout import choices, planner, preflight, quarantine, strategy
    from backline.rollout.cargo import Cargo

    stored = store.load(places.dist(), named(wish.release))
    if not wish.skip_local_check:
        store.verify(stored, signers(fleet))
    rules = strategy.read(wish.rules or {}, strategy.read(fleet.rollout))
    selected = selection.select(fleet, wish.on or selection.EVERYTHING)
    given = selection.select(fleet, wish.quarantine) if wish.quarantine else []
    if given:  # a whole zone: of other hosts in it nobody would ever take the mark away
        given = planner.hosts_of(stored.release, fleet.groups, given)
    chosen = planner.hosts_of(stored.release, fleet.groups, [h for h in selected if h not in given])
    looks = look(hosts, chosen, stored.release.app, dry)
    known = quarantine.known(found.status for found in looks.values())
    known = {} if ignore_quarantine else known
    out = [host for host in selected if host in given or host in known]
    looks = {host: found for host, found in looks.items() if host not in out}
    if not looks:
        raise BacklineError(
            "all of these hosts are in quarantine", hosts=out, hint="fab deploy.catchup"
        )
    preflight.check(stored.release, looks)
    statuses = {host: found.status for host, found in looks.items()}
    choices.guard_schema(statuses, stored.release.id, wish.accept_schema)
    # Who leaves it to the hosts has not looked whether the archive can be unpacked: no patch from it.
    whole = wish.whole or wish.skip_local_check
    patches = {} if whole else patches_of(stored, planner.bases(statuses, stored.release.id))
    intended = planner.deploy(
        stored.release,
        fleet.groups,
        statuses,
        rules,
        zones={host: fleet.hosts[host].zone for host in chosen},
        patches={base: path.stat().st_size for base, path in patches.items()},
        left_out=out,
    )
    papers = (stored.document, stored.signature)
    addresses = _addresses(fleet, intended, (*papers, stored.archive, *patches.values()))
    cargo = Cargo(intended, papers, stored.archive, patches, addresses)
    fences = {host: int(status["fence"]) for host, status in statuses.items()}
    return intended, Options(fences=fences, cargo=cargo, probe_paths=probe_paths(stored))


def named(release: str) -> str:
    """The release that was named; BacklineError listing some when none was."""
    from backline import places
    from backline.release import store

    if release:
        return release
    raise BacklineError(
        "which release? Name it: --release ID, or --release latest",
        state="nothing was changed",
        hint=f"newest first: {', '.join(reversed(store.ids(places.dist())[-5:])) or 'none'}; "
        "build one: inv release.build examples/jukebox",
    )


def save(fleet: Environment, plan: Plan, wish: Wish) -> Path:
    """Keeps a plan under its hash."""
    from dataclasses import asdict

    from backline import places

    folder = places.plans(fleet.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{plan.digest}.json"
    content = {"wish": asdict(wish), "plan": plan.as_data()}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def saved(fleet: Environment, digest: str) -> tuple[Wish, Plan]:
    """A plan that was kept. Raises BacklineError when there is none of that hash."""
    from backline import places
    from backline.rollout import plan as plans

    folder = places.plans(fleet.name)
    found = sorted(folder.glob(f"{digest}*.json")) if digest.isalnum() else []
    if len(found) != 1:
        known = ", ".join(path.stem for path in sorted(folder.glob("*.json"))[-5:]) or "none"
        raise BacklineError(
            f"there is no plan {digest} of {fleet.name}",
            state="nothing was changed",
            hint=f"saved: {known}; make one: fab deploy.plan --release ID",
        )
    content = json.loads(found[0].read_text(encoding="utf-8"))
    return Wish(**content["wish"]), plans.from_data(content["plan"])


def refuse_change(old: Plan, new: Plan) -> None:
    """Raises BacklineError (6), saying what differs, unless both plans are the same."""
    if old.digest == new.digest:
        return
    before, after = old.as_data(), new.as_data()
    differ = [key for key in before if before[key] != after[key]]
    steps = {(s.host, s.process): s.live for s in old.steps}
    moved = [
        f"{s.host} {s.process} runs {s.live or 'nothing'}, not {steps.get((s.host, s.process))}"
        for s in new.steps
        if steps.get((s.host, s.process), "") != s.live
    ]
    raise BacklineError(
        f"the world is not as it was when plan {old.digest} was made: "
        + ("; ".join(moved) or f"{', '.join(differ)} changed"),
        state="nothing was changed",
        hint="make a new plan and look at it: fab deploy.plan",
        exit_code=Exit.GUARD_REFUSED,
    )


def look(hosts: SshFleet, chosen: list[str], app: str, dry: bool) -> dict[str, Look]:
    """Every host's answers; BacklineError naming those that have none.

    Unless nothing may be changed (`dry`), a host whose hostctl is older than ours gets ours first.
    """
    from backline.rollout import preflight
    from backline.tasks import handshake

    found = preflight.look(hosts, chosen, app, operator.clock())
    old = handshake.behind(found)
    if old and not dry:
        handshake.update(hosts, old)
        found |= preflight.look(hosts, old, app, operator.clock())
    return preflight.require(found)


def signers(fleet: Environment) -> tuple[str, ...]:
    """Whom the hosts trust, by the inventory; else our own key."""
    from backline.release import signing

    if fleet.allowed_signers:
        return fleet.allowed_signers
    key, _ = signing.signing_key()
    return (signing.signer_line(key),)


def patches_of(stored: Stored, bases: set[str]) -> dict[str, Path]:
    """Patches against those releases on the hosts that lie in dist/ as well."""
    from backline import places
    from backline.release import delta, store

    here = set(store.ids(places.dist()))
    known = [store.load(places.dist(), base) for base in sorted(bases & here)]
    return delta.patches(stored, known, places.dist())


def probe_paths(stored: Stored) -> tuple[str, ...]:
    """What a run asks through the edge."""
    return tuple(stored.release.probe["paths"])


def _addresses(fleet: Environment, plan: Plan, files: tuple[Path, ...]) -> dict[str, str] | None:
    """Where hosts find the files by themselves, if the inventory names an origin."""
    from backline.release import origin

    place = os.environ.get(ORIGIN, "") or str(fleet.rollout.get("origin") or "")
    return origin.addresses(place, plan.app, [file.name for file in files]) if place else None
