"""`hostctl jobs`: what the Celery pools of this host do, and what becomes of jobs that nobody could do.

The questions are put by celery_program.py, run with the application's own Python, user and environment:
hostctl knows no broker and no password. It belongs to no run and needs no lease; changes are in journald.
"""

from __future__ import annotations

import json
import pkgutil
import platform
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from . import commands, journal, listener, record, scale, settings, state, units
from .celery_program import MARK
from .drain import FLAG
from .errors import HostctlError, UsageError
from .host import Host
from .names import Request
from .settings import App, Manifest, Process

ACTIONS = ("status", "dead", "requeue", "revoke")
START = 25.0
"""Seconds that an application gets until it can ask, on a busy host."""
IDS, TEXT, LETTERS = 500, 255, 10_000
NAMES = {"-n", "--hostname"}
APPS = {"-A", "--app"}


class Pool(NamedTuple):
    """A Celery pool with a live release. `celery` names the application, `node` the worker."""

    process: Process
    release: str
    manifest: Manifest
    celery: str
    node: str


def jobs(host: Host, request: Request) -> dict[str, object]:
    """The verb `jobs`. `status` returns {pools, singletons}; the others what celery_program.py says.

    Raises `UsageError`, or `HostctlError` (no_celery, jobs_failed).
    """
    action = request.choice("action", ACTIONS)
    app = settings.app(host, request.app())
    found = pools(host, app)
    if action == "status":
        patience = request.seconds("patience", 2.0, minimum=0.1, maximum=30)
        with listener.listened():
            return _status(host, app, found, patience)
    if not found:
        raise HostctlError(
            "no_celery", f"no Celery pool of {app.name} is live here", "ask a worker host"
        )
    asked = {
        "dead": _of_letters,
        "requeue": _of_letters,
        "revoke": _of_job,
    }[action](request)
    with listener.listened() if action == "dead" else nullcontext():
        answer = _ask(host, app, found[0], {**asked, "action": action})
    if action == "requeue":
        record.announce(host, request, "done", action=action, moved=answer.get("moved"))
    elif action == "revoke" and not asked["dry"]:
        record.announce(host, request, "done", action=action, ids=asked["ids"])
    return answer


def pools(host: Host, app: App) -> list[Pool]:
    """The Celery pools of an app that have a live release here."""
    known, found = state.load(host, app.name), []
    for name in settings.process_names(host, app.name):
        process, release = settings.process(host, app.name, name), state.live(known, name)
        if process.kind != "worker" or not release:
            continue
        manifest = settings.manifest(host, app, release)
        declared = settings.process_manifest(manifest, process)
        values = settings.placeholders(host, app, process, release)
        words = settings.fill(declared.get("command"), values)
        if celery := option(words, APPS):
            node = option(words, NAMES) or "celery@%h"
            found.append(Pool(process, release, manifest, celery, node_name(node)))
    return found


def option(words: list[str], names: set[str]) -> str:
    """The value of an option of a command line, or nothing: `-A x`, `--app x`, `--app=x`."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else "".join(words[number + 1 : number + 2])
    return ""


def node_name(pattern: str) -> str:
    """A worker's name as Celery makes it of -n."""
    whole = platform.node()
    short, _, domain = whole.partition(".")
    return pattern.replace("%h", whole).replace("%n", short).replace("%d", domain)


def _status(host: Host, app: App, found: list[Pool], patience: float) -> dict[str, object]:
    running = {pool.node: _instance(host, pool.process, pool.release) for pool in found}
    nodes: Mapping[str, Any] = {}
    trouble = None
    alive = [pool for pool in found if running[pool.node] == "active"]
    if alive:
        asked = {"action": "pools", "nodes": [pool.node for pool in alive], "patience": patience}
        try:
            nodes = _ask(host, app, alive[0], asked)["nodes"]
        except HostctlError as error:
            trouble = error.message
    return {
        "pools": [
            {
                "process": pool.process.name,
                "release": pool.release,
                "node": pool.node,
                "active": running[pool.node],
                "queues": pool.process.parameters.get("queues", ""),
                "children": int(pool.process.parameters.get("concurrency") or 1),
                "inventory": scale.inventory(host, app.name, pool.process.name),
                "answer": nodes.get(pool.node),
                "rests": running[pool.node] != "active" and _rests(host, app, pool),
            }
            for pool in found
        ],
        "singletons": _singletons(host, app),
        "trouble": trouble,
    }


def _rests(host: Host, app: App, pool: Pool) -> bool:
    """Whether a pool was stopped to stay so: by a run that did not scale it, or with the host drained."""
    if host.path(FLAG).exists():
        return True
    name, stopped_by = pool.process.name, None
    for entry in journal.newest(host, app.name, name):
        verb, run = entry.get("verb"), entry.get("run")
        if entry.get("process") != name:
            continue
        if stopped_by is None:
            if entry.get("release") != pool.release or verb not in ("start", "stop"):
                continue
            if verb == "start":
                return False
            stopped_by = run
        elif verb == "scale" and run == stopped_by:
            return False
    return stopped_by is not None


def _singletons(host: Host, app: App) -> list[dict[str, object]]:
    known = state.load(host, app.name)
    found: list[dict[str, object]] = []
    for name in settings.process_names(host, app.name):
        process, release = settings.process(host, app.name, name), state.live(known, name)
        if process.kind == "singleton" and release:
            active = _instance(host, process, release)
            found.append({"process": name, "release": release, "active": active})
    return found


def _instance(host: Host, process: Process, release: str) -> str:
    return units.show(host, process, release).active


def _of_letters(request: Request) -> dict[str, Any]:
    """Which letters are meant."""
    limit = request.integer("limit", 1000, minimum=1, maximum=LETTERS)
    return {
        "queue": _name(request, "queue") or "dead",
        "task": _name(request, "task"),
        "origin": _name(request, "origin"),
        "to": _name(request, "to"),
        "ids": _ids(request),
        "limit": limit,
        "most": request.integer("most", limit, minimum=0, maximum=LETTERS),
        "seconds": request.seconds("seconds", 60, minimum=1, maximum=600),
    }


def _of_job(request: Request) -> dict[str, Any]:
    ids = _ids(request)
    if len(ids) != 1:
        raise UsageError("bad_field", "jobs: ids must be the ID of one job")
    return {
        "ids": ids,
        "terminate": request.boolean("terminate"),
        "dry": request.boolean("dry"),
        "patience": request.seconds("patience", 3, minimum=0.1, maximum=30),
    }


def _name(request: Request, field: str) -> str:
    """A name of somebody else's making, short and on one line."""
    value = request.text(field)
    if len(value) > TEXT or value != str(request.fields.get(field) or ""):
        raise UsageError("bad_field", f"jobs: {field} must be a name of at most {TEXT} characters")
    return value


def _ids(request: Request) -> list[str]:
    value = request.fields.get("ids") or []
    if isinstance(value, list) and len(value) <= IDS:
        found = [one for one in value if isinstance(one, str) and 0 < len(one) <= TEXT]
        if len(found) == len(value):
            return found
    raise UsageError("bad_field", f"jobs: ids must be a list of at most {IDS} IDs")


def _ask(host: Host, app: App, pool: Pool, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the program says, run as the application."""
    source = pkgutil.get_data(str(__package__), "celery_program.py")
    assert source is not None
    python = f"{settings.release_folder(host, app, pool.release)}/venv/bin/python"
    stdin = json.dumps({**asked, "celery": pool.celery}).encode()
    timeout = START + float(asked.get("seconds", 0)) + 4 * float(asked.get("patience", 0))
    argv = [python, "-c", source.decode()]
    ended = commands.run(host, app, pool.manifest, argv, timeout, stdin)
    answers = [line for line in ended.out.splitlines() if line.startswith(MARK)]
    if ended.status == 0 and answers:
        return dict(json.loads(answers[-1].removeprefix(MARK)))
    late = f"no answer within {timeout:.0f} s" if ended.status is None else ""
    said = ended.err.strip().splitlines()
    raise HostctlError(
        "jobs_failed",
        f"{app.name} cannot ask its broker: {late or (said[-1] if said else 'it said nothing')}"[
            :500
        ],
        "fab broker.status; letters that were not confirmed stay where they were",
    )
