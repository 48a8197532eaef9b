"""The page that tells of one run: made at the end of each, and again whenever it is asked for."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks.operator import ENV_HELP, environment, operation

if TYPE_CHECKING:
    from backline.rollout.report import Report
    from backline.transport.port import Sample

TEMPLATE = "report.html.j2"
MOST_EVENTS = 3000


@operation(
    positional=["run"],
    help={
        "run": "the run's ID, the beginning of it, or `latest`",
        "env": ENV_HELP,
        "out": "write the page there (default: report.html beside the run's journal)",
        "open": "`yes`: show it in this machine's browser",
        "json": "what the page says, as one JSON object on stdout; no page is written",
    },
    choices={"open": ("yes", "no")},
)
def report(
    c: Context,
    run: str,
    env: str = "",
    out: str = "",
    open: str = "no",
    json: bool = False,
) -> None:
    """Write the report of a run, one HTML file that needs no other, and print where it is.

    Each run writes one by itself, beside its journal in .backline/ENV/runs/. It needs the journal: the run
    must have been made from this checkout.

    Examples:
        fab report latest --env production
        fab report 20261126T0321 --env production --out incident.html
        fab report latest --env lab --json | jq .summary
    """
    from backline import console
    from backline.tasks.records import find_run

    fleet = environment(env)
    journal = find_run(fleet.name, run)
    if json:
        console.line(_collect(fleet.name, journal)[0].as_json())
        return
    path = _write(fleet.name, journal, Path(out) if out else journal.with_name("report.html"))
    print(path)
    if open in ("yes", "y", "true", "1"):
        import webbrowser

        webbrowser.open(path.resolve().as_uri())


def write(env_name: str, run_id: str) -> Path:
    """Writes the report of a run that was made from here; returns where it is.

    Raises BacklineError, OSError or jinja2's errors: whoever calls it at the end of a run must not
    let that change how the run ended.
    """
    from backline import places

    journal = places.runs(env_name) / run_id / "journal.jsonl"
    return _write(env_name, journal, journal.with_name("report.html"))


def _write(env: str, journal: Path, target: Path) -> Path:
    found, events = _collect(env, journal)
    page = render(found, events)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_text(page, encoding="utf-8")
    fresh.chmod(0o600)  # errors may quote what hosts said
    fresh.replace(target)
    return target


def _collect(env: str, journal: Path) -> tuple[Report, Sequence[Mapping[str, Any]]]:
    """The report's data and the journal's events. Raises BacklineError when there is no run in it."""
    from backline.rollout.report import assemble
    from backline.transport import runlog

    verdict = runlog.read(journal)
    events: list[dict[str, Any]] = [*verdict.entries]
    try:
        found = assemble(env, events, list(_samples(journal)), dict(_documents(events)))
    except (ValueError, KeyError, TypeError) as error:
        raise BacklineError(
            f"no report can be made from {journal}: {error}",
            hint=f"fab audit.verify --env {env} says whether it is damaged",
        ) from error
    if verdict.problem:
        notice = {"kind": "warning", "time": events[-1].get("time", 0), "host": "", "process": ""}
        found.notices.append({**notice, "text": f"the journal is damaged: {verdict.problem}"})
    return found, events


def _samples(journal: Path) -> Iterable[Sample]:
    """What the probe kept; a line that was cut off is skipped."""
    from backline.transport.port import Sample

    path = journal.with_name("probe.jsonl")
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield Sample(**jsons.loads(line))
            except (ValueError, TypeError):
                continue


def _documents(events: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, dict[str, Any]]]:
    """release.json of every release in the plan that is still in dist/."""
    from backline import places

    plans = [event["plan"] for event in events if event.get("event") == "begun"][:1]
    for plan in plans:
        for release in {plan["release"], *(step["live"] for step in plan["steps"])} - {None}:
            path = places.dist() / f"{release}.release.json"
            if path.is_file() and path.parent == places.dist():
                try:
                    yield release, jsons.loads(path.read_bytes())
                except ValueError:
                    continue


def render(found: Report, events: Sequence[Mapping[str, Any]]) -> str:
    """The page. Everything in it is escaped: hosts and applications have their say in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from backline import places
    from backline.console.records import in_words
    from backline.rollout import changes

    jinja = Environment(
        loader=FileSystemLoader(places.CHECKOUT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    began = found.head["began"]
    jinja.filters |= {
        "size": changes.size,
        "ms": lambda value: "–" if value is None else f"{value:.0f} ms",
        "count": lambda value: f"{value:,}".replace(",", "\u202f"),
        "long": wording.lasting,
        "moment": _moment,
        "after": lambda time: f"+{time - began:.1f} s",
        "folded": _folded,
    }
    told = [
        (e.get("seq"), e.get("time", began), str(e.get("event")), in_words(e))
        for e in events[:MOST_EVENTS]
    ]
    rest = max(0, len(events) - MOST_EVENTS)
    return jinja.get_template(TEMPLATE).render(r=found, events=told, more_events=rest)


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _folded(hosts: Iterable[str]) -> str:
    from backline.selection import fold

    names = list(hosts)
    return fold(names) if names else "nobody"
