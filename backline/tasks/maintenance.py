"""The page that listeners see while the application rests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks import operator
from backline.tasks.command import say
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    YES_HELP,
    confirm,
    environment,
    new_run,
    operation,
    reach,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.maintenance import Edge

SKIP_HELP = "edges that are down anyway, an Ansible pattern"


@operation(
    help={
        "message": "what listeners read on the page; kept with who did it",
        "until": "when you expect to be back, on the page too: 90m, 2h or 2026-11-26T15:30Z",
        "skip": SKIP_HELP,
        "env": ENV_HELP,
        "json": JSON_HELP,
        "dry_run": "name the edges, print the page and end; nothing is changed",
        "yes": YES_HELP,
    }
)
def on(
    c: Context,
    message: str = "",
    until: str = "",
    skip: str = "",
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
) -> None:
    """Show listeners a page instead of the application, at once and on all edges, until maintenance.off.

    Health checks go on telling the truth, downloads under way go on, and the page stays over reloads and
    reboots of an edge. Exit 3 when some edges show it in the end and some do not.

    Examples:
        fab maintenance.on --env lab --message 'We move to new disks.' --until 90m --dry-run
        fab maintenance.on --env lab --message 'We move to new disks.' --until 90m
    """
    from backline import console
    from backline.operations import maintenance

    fleet = environment(env)
    if len(message) > maintenance.MESSAGE_LIMIT:
        raise BacklineError(
            f"--message has {len(message)} letters, {maintenance.MESSAGE_LIMIT} are allowed",
            state="nothing was changed",
        )
    ends = maintenance.moment(until, operator.clock().time())
    page = maintenance.one_line(render(_site(fleet), message, ends))
    names = _edges(fleet, skip)
    back = f"until {maintenance.words(ends)[1]}, " if ends is not None else ""
    touched = wording.touched(f"{back}show the page on", names, fleet.name)
    if dry_run:
        if json:
            what = {"hosts": names, "until": ends, "page": page}
            console.line({"schema_version": 1, "event": "plan", "action": "on", **what})
        else:
            console.console().print(touched, style="bold", markup=False)
            print(page, flush=True)
        return
    fields: dict[str, Any] = {"action": "on", "page": page}
    if ends is not None:
        fields["until"] = ends
    _switch(fleet, names, fields, message, json, yes, touched)


@operation(
    help={
        "message": "why: kept in the journals of the edges",
        "skip": SKIP_HELP,
        "env": ENV_HELP,
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
    }
)
def off(
    c: Context,
    message: str = "",
    skip: str = "",
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
) -> None:
    """Let listeners have the application again, on all edges.

    Exit 3 when some edges show the page in the end and some do not: the same command again. An edge that
    is skipped keeps the page: the same without --skip when it is back.

    Examples:
        fab maintenance.off --env lab
        fab maintenance.off --env lab --skip edge2
    """
    from backline import console

    fleet = environment(env)
    names = _edges(fleet, skip)
    touched = wording.touched("show the application again on", names, fleet.name)
    if dry_run:
        if json:
            what = {"action": "off", "hosts": names}
            console.line({"schema_version": 1, "event": "plan", **what})
        else:
            console.console().print(touched, style="bold", markup=False)
        return
    _switch(fleet, names, {"action": "off"}, message, json, yes, touched)


@operation(help={"env": ENV_HELP, "json": JSON_HELP})
def status(c: Context, env: str = "", json: bool = False) -> None:
    """Show which edges show the page, who switched it, when and until when. Exit 3 when edges differ.

    Exit 1 when an edge does not answer, or the time that the page promises is over.

    Examples:
        fab maintenance.status --env lab
        fab maintenance --env lab --json
    """
    from backline import console
    from backline.operations import maintenance

    fleet = environment(env)
    with reach(fleet) as hosts:
        edges = maintenance.collect(hosts, _edges(fleet, ""))
    if json:
        for edge in edges:
            console.line(edge.as_json())
    else:
        console.show_maintenance(edges)
    _judge(edges, operator.clock().time())


def render(site: str, message: str, until: float | None) -> str:
    """The page. What is said on it is escaped."""
    from jinja2 import Environment as Jinja
    from jinja2 import FileSystemLoader, StrictUndefined

    from backline import places
    from backline.operations.maintenance import words

    jinja = Jinja(
        loader=FileSystemLoader(places.CHECKOUT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    page = jinja.get_template("maintenance.html.j2")
    return page.render(site_name=site, message=message, until=words(until) if until else None)


def _switch(
    fleet: Environment,
    names: list[str],
    fields: dict[str, Any],
    message: str,
    as_json: bool,
    yes: int,
    touched: str,
) -> None:
    from backline import console
    from backline.operations import maintenance

    who = new_run("edge", message).who
    with reach(fleet) as hosts:
        maintenance.require(maintenance.collect(hosts, names))
        confirm(fleet, len(names), yes, as_json, touched=touched)
        maintenance.switch(hosts, names, {**who, **fields})
        seen = maintenance.collect(hosts, _edges(fleet, ""))
    edges = [edge for edge in seen if edge.host in names or edge.error is None]
    if as_json:
        for edge in edges:
            console.line(edge.as_json())
    else:
        console.show_maintenance(edges)
    skipped = [edge.host for edge in seen if edge.host not in names]
    if skipped:
        say(f"{', '.join(skipped)} was skipped, and comes back as it was")
        say("then: the same command without --skip; fab maintenance shows all edges")
    _judge(edges, operator.clock().time())
    _require(edges, fields["action"] == "on")


def _require(edges: list[Edge], on: bool) -> None:
    """All edges agree: on what was wanted, unless somebody else came later."""
    others = [edge.host for edge in edges if edge.on != on]
    if others:
        raise BacklineError(
            f"somebody else switched it at the same time: it is {'off' if on else 'on'}",
            hosts=others,
            hint="fab maintenance shows who, and why",
        )


def _judge(edges: list[Edge], now: float) -> None:
    silent = [edge for edge in edges if edge.error is not None]
    states = {(edge.on, edge.after_reload) for edge in edges if edge.error is None}
    if len(states) > 1 or any(now_on != later for now_on, later in states):
        raise BacklineError(
            "the edges differ: listeners see either, by chance",
            hosts=[edge.host for edge in edges],
            hint="fab maintenance.on or fab maintenance.off, on all of them",
            exit_code=Exit.MIXED,
        )
    if silent:
        raise BacklineError(
            wording.each((edge.host, edge.error) for edge in silent),
            hosts=[edge.host for edge in silent],
        )
    over = [edge.host for edge in edges if edge.on and _until(edge) and _until(edge) < now]
    if over:
        raise BacklineError(
            "the time that the page promises is over",
            hosts=over,
            hint="fab maintenance.off, or fab maintenance.on with another --until",
        )


def _until(edge: Edge) -> float:
    return float((edge.kept or {}).get("until") or 0.0)


def _edges(fleet: Environment, skip: str) -> list[str]:
    from backline import selection

    left_out = selection.select(fleet, skip) if skip else []
    found = [name for name in fleet.groups.get("edge", ()) if name not in left_out]
    if not found:
        raise BacklineError("no edge is left to be told", state="nothing was changed")
    return found


def _site(fleet: Environment) -> str:
    """What listeners call it: the name that the probe asks for."""
    return urlsplit(str(fleet.rollout.get("probe_url") or "")).hostname or fleet.name


collection = Collection("maintenance")
collection.add_task(status, default=True)
for found in (on, off):
    collection.add_task(found)
