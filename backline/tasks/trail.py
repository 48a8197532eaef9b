"""Who changed what, and whether the records of it are what was written."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.operator import ENV_HELP, JSON_HELP, ON_HELP, environment, operation, reach

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.rollout.audit import Chain, Problem
    from backline.transport.fleet import SshFleet

PAGE = 1000
DEADLINE = 25.0


@operation(
    help={
        "env": ENV_HELP,
        "limit": "so many of the newest runs; 0: all of them",
        "run": "one run's events: its ID, the beginning of it, or `latest`",
        "json": JSON_HELP,
    },
)
def show(c: Context, env: str = "", limit: int = 20, run: str = "", json: bool = False) -> None:
    """List the runs made from here: when, who, what, why, which plan, and how each ended."""
    from backline import console
    from backline.rollout import audit

    fleet = environment(env)
    if run:
        _show_run(fleet.name, run, json)
        return
    journals = {name: chain.entries for name, chain in read_journals(fleet.name).items()}
    found = audit.sittings(_read_audit(fleet.name).entries, journals)
    found = found[-limit:] if limit else found
    if json:
        for sitting in found:
            console.line(sitting.as_json())
    elif found:
        console.show_runs(sitting.as_json() for sitting in found)
    else:
        console.console().print(f"no run was made from here to {fleet.name}", markup=False)


def _show_run(env: str, run: str, as_json: bool) -> None:
    from backline import console

    chain = read_journal(find_run(env, run))
    if as_json:
        for entry in chain.entries:
            console.line(dict(entry))
    else:
        console.show_events(chain.entries)
    if chain.problem:
        raise BacklineError(
            f"the journal is damaged: {chain.problem}", hint=f"fab audit.verify --env {env}"
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
    """Find any line of the records, here and on the hosts, that was edited, dropped or reordered."""
    from backline.rollout import audit

    fleet = environment(env)
    for _ in range(2):  # a run may have begun or ended between reading one file and the next
        trail, journals = _read_audit(fleet.name), read_journals(fleet.name)
        problems, notes = audit.verify(trail, journals)
        if not problems:
            break
    asked: list[str] = []
    if not local:
        asked, found, strangers = _ask_hosts(fleet, on, journals)
        problems += found
        for run, who in sorted(strangers.items()):
            text = f"run {run} is known to {', '.join(who)} and not here"
            if alone:
                problems.append(audit.Problem(audit.AUDIT, 0, f"{text}: dropped"))
            else:
                notes.append(f"{text}: made from another controller, or removed here")
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
            out.print(f"  {problem}", style="red", markup=False)
        for note in notes:
            out.print(f"  {note}", style="yellow", markup=False)
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
    from backline.rollout import audit

    selected = selection.select(fleet, on or selection.EVERYTHING)
    problems: list[Problem] = []
    strangers: dict[str, list[str]] = {}
    asked: list[str] = []
    with reach(fleet) as hosts:
        outcomes = hosts.each(selected, lambda host: _read_host(hosts, host), deadline=4 * DEADLINE)
    for host, outcome in outcomes.items():
        if outcome.value is None:
            why = outcome.error.message if outcome.error else "no answer"
            problems.append(audit.Problem(host, 0, f"could not be asked: {why}"))
            continue
        for app, chain in outcome.value.items():
            asked.append(f"{host} {app}")
            found, unknown = audit.compare(host, app, chain, journals)
            problems += found
            for run in unknown:
                strangers.setdefault(run, []).append(host)
    return asked, problems, strangers


def _read_host(hosts: SshFleet, host: str) -> dict[str, Chain]:
    """The journals of one host, by app, fetched page by page. Raises HostError."""
    from backline.rollout.audit import Chain

    found = {}
    for app in sorted(hosts.call(host, "facts", {}, deadline=DEADLINE)["apps"]):
        entries: list[dict[str, Any]] = []
        while True:
            after = int(entries[-1]["seq"]) if entries else 0
            fields = {"app": app, "after": after, "limit": PAGE}
            answer = hosts.call(host, "journal", fields, deadline=DEADLINE)
            entries += answer["entries"]
            if len(answer["entries"]) < PAGE:
                break
        found[app] = Chain(entries, answer["problem"] or _recheck(entries))
    return found


def _recheck(entries: list[dict[str, Any]]) -> str | None:
    """The chain once more, here: a host that was broken into says of itself what it likes."""
    from backline.hostctl import journal

    lines = (jsons.dumps(entry).encode() + b"\n" for entry in entries)
    return journal.verify(b"".join(lines)).problem


def _read_audit(env: str) -> Chain:
    from backline import places

    return read_journal(places.audit(env))


def read_journals(env: str) -> dict[str, Chain]:
    """The journals of all runs made from here, by run."""
    from backline import places

    folder = places.runs(env)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return {name: read_journal(folder / name / "journal.jsonl") for name in names}


def read_journal(path: Path) -> Chain:
    """One journal and what is wrong with it; empty when there is none."""
    from backline.rollout.audit import Chain
    from backline.transport import runlog

    verdict = runlog.read(path)
    torn = False
    if verdict.problem:
        data = path.read_bytes()
        torn = not data.endswith(b"\n") and data.count(b"\n") == len(verdict.entries)
    return Chain(verdict.entries, verdict.problem, torn)


def find_run(env: str, run: str) -> Path:
    """The journal of a run: by its ID, the beginning of it, or `latest`. Raises BacklineError."""
    from backline import places

    folder = places.runs(env)
    known = sorted(path.parent.name for path in folder.glob("*/journal.jsonl"))
    found = known[-1:] if run == "latest" else [name for name in known if name.startswith(run)]
    found = [run] if run in known else found
    if len(found) != 1:
        recent = ", ".join(reversed(found[-5:] or known[-5:])) or "none yet"
        what = f"{len(found)} runs begin with {run!r}" if found else f"there is no run {run!r}"
        raise BacklineError(f"{what} of {env} here", hint=f"newest: {recent}; fab audit lists all")
    return folder / found[0] / "journal.jsonl"


collection = Collection("audit", verify)
collection.add_task(show, default=True)
