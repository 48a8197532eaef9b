"""Who changed what, and whether the records of it are what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks import records
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.rollout.audit import Chain, Problem


@operation(
    help={
        "env": ENV_HELP,
        "limit": "so many of the newest runs; 0: all of them",
        "run": "one run's events: its ID, the beginning of it, or `latest`",
        "commands": "list what was run with `fab run`, `fab shell` and by playbooks instead",
        "json": JSON_HELP,
    },
)
def show(
    c: Context,
    env: str = "",
    limit: int = 20,
    run: str = "",
    commands: bool = False,
    json: bool = False,
) -> None:
    """List the runs made from here: when, who, what, why, which plan, and how each ended.

    With --run: what happened in one run, event by event. With --commands: what was run on hosts. It
    reads this checkout's .backline/ENV/ alone and asks no host. Restarts, reboots, patch and provision
    runs are Ansible's: they are among the commands. The exit code is 1 when audit.jsonl, or the journal
    of the run, is damaged: what comes before the damage is shown.

    Examples:
        fab audit --env production
        fab audit --env production --run latest
        fab audit --env production --commands --limit 50
    """
    from backline import console
    from backline.rollout import audit

    fleet = environment(env)
    if run:
        _show_run(fleet.name, run, json)
        return
    if commands:
        _show_commands(fleet.name, limit, json)
        return
    journals = {name: chain.entries for name, chain in records.read_journals(fleet.name).items()}
    trail = records.read_audit(fleet.name)
    found = audit.sittings(trail.entries, journals)
    found = found[-limit:] if limit else found
    if json:
        for sitting in found:
            console.line(sitting.as_json())
    elif found:
        console.show_runs(sitting.as_json() for sitting in found)
    elif not trail.problem:
        console.console().print(f"no run was made from here to {fleet.name}", markup=False)
    _check(trail, audit.AUDIT, fleet.name)


def _show_commands(env: str, limit: int, as_json: bool) -> None:
    from backline import console
    from backline.rollout import audit

    trail = records.read_audit(env)
    found = audit.commands(trail.entries)
    found = found[-limit:] if limit else found
    if as_json:
        for entry in found:
            console.line(entry)
    elif found:
        console.show_commands(found)
    elif not trail.problem:
        console.console().print(f"no command was run from here on {env}", markup=False)
    _check(trail, audit.AUDIT, env)


def _show_run(env: str, run: str, as_json: bool) -> None:
    from backline import console

    chain = records.read_journal(records.find_run(env, run))
    if as_json:
        for entry in chain.entries:
            console.line(dict(entry))
    else:
        console.show_events(chain.entries)
    _check(chain, "the journal", env)


def _check(chain: Chain, name: str, env: str) -> None:
    """Raises BacklineError when what was shown is not all that there was."""
    if chain.problem:
        raise BacklineError(
            f"{name} is damaged: {chain.problem}",
            state="what came after that is not shown",
            hint=f"fab audit.verify --env {env}",
        )


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "local": "look at the records here alone, ask no host",
        "alone": "no other controller deploys here: a run that only hosts know counts as dropped",
        "json": JSON_HELP,
    },
)
def verify(
    c: Context,
    env: str = "",
    on: str = "",
    local: bool = False,
    alone: bool = False,
    json: bool = False,
) -> None:
    """Find any line of the records, here and on the hosts, that was edited, dropped or reordered.

    Three chains hold each other: audit.jsonl, each run's journal, each host's journal. The exit code is
    1 when anything is not what was written, or a host cannot be asked; each problem names its line.

    Examples:
        fab audit.verify --env production
        fab audit.verify --env production --local
        fab audit.verify --env production --on 'streaming:&zone_a' --json
    """
    from backline.rollout import audit

    fleet = environment(env)
    for _ in range(2):  # a run may have begun or ended between reading one file and the next
        trail, journals = records.read_audit(fleet.name), records.read_journals(fleet.name)
        problems, notes = audit.verify(trail, journals)
        if not problems:
            break
    asked: list[str] = []
    if not local:
        asked, found, strangers = _ask_hosts(fleet, on, journals)
        problems += found
        begun = {entry.get("run") for entry in trail.entries}
        strangers = {run: who for run, who in strangers.items() if run not in begun}
        for run, who in sorted(strangers.items()) if alone else ():
            what = f"run {run} is known to {', '.join(who)} and not here: dropped"
            problems.append(audit.Problem(audit.AUDIT, 0, what))
        if strangers and not alone:
            notes.append(
                f"runs known to hosts and not here ({len(strangers)}), made from another "
                f"controller, or removed here: {', '.join(sorted(strangers))}"
            )
    lines = len(trail.entries) + sum(len(chain.entries) for chain in journals.values())
    said = f"{lines} lines of {len(journals)} runs here, {len(asked)} journals of hosts"
    _tell(fleet.name, problems, notes, said, json)


def _tell(env: str, problems: list[Problem], notes: list[str], said: str, as_json: bool) -> None:
    """Prints what was found; BacklineError when anything was."""
    from backline import console

    if as_json:
        for problem in problems:
            what = {"where": problem.where, "line": problem.line or None, "what": problem.what}
            console.line({"schema_version": 1, "event": "problem", **what})
        for note in notes:
            console.line({"schema_version": 1, "event": "note", "text": note})
        content: dict[str, Any] = {"intact": not problems, "problems": len(problems)}
        console.line({"schema_version": 1, "event": "verified", **content, "text": said})
    else:
        out = console.console()
        for problem in problems:
            out.print(f"  {problem}", style="red", markup=False, soft_wrap=True)
        for note in notes:
            out.print(f"  {note}", style="yellow", markup=False, soft_wrap=True)
        if not problems:
            out.print(f"intact: {said}", style="green", markup=False)
    if problems:
        raise BacklineError(
            f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {said}",
            state="the records are not what was written",
            hint=f"compare with a backup of .backline/{env}; the hosts' own are in "
            "/var/lib/backline/APP/journal.jsonl and in journald",
        )


def _ask_hosts(
    fleet: Environment, on: str, journals: dict[str, Chain]
) -> tuple[list[str], list[Problem], dict[str, list[str]]]:
    """The journals that were read, what is wrong, and which hosts know which runs that we do not."""
    from backline import selection
    from backline.rollout import audit, witnesses

    selected = selection.select(fleet, on or selection.EVERYTHING)
    problems: list[Problem] = []
    strangers: dict[str, list[str]] = {}
    asked: list[str] = []
    with reach(fleet) as hosts:
        outcomes = hosts.each(
            selected, lambda host: records.read_host(hosts, host), deadline=4 * records.DEADLINE
        )
    for host, outcome in outcomes.items():
        if outcome.value is None:
            why = outcome.error.message if outcome.error else "no answer"
            problems.append(audit.Problem(host, 0, f"could not be asked: {why}"))
            continue
        for app, chain in outcome.value.items():
            asked.append(f"{host} {app}")
            found, unknown = witnesses.compare(host, app, chain, journals)
            problems += found
            for run in unknown:
                strangers.setdefault(run, []).append(host)
    return asked, problems, strangers


collection = Collection("audit", verify)
collection.add_task(show, default=True)
