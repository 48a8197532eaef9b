"""run.json: the run that works on an app, kept on each of its hosts.

{"run": ID, "token": N, "plan": {…}, "notes": [{…}], "ended": null|"new|old|mixed|refused",
 "wanted": null|{"want", "actor", "at"}}
The plan is stored before the lease is granted, so that any machine can take up a run whose
controller died: the hosts know what was intended, and their journals what was done. hostctl
itself never looks into a plan or a note.
"""

from __future__ import annotations

import json
from typing import Any

from . import files, journal, record
from .errors import HostctlError, Refused
from .host import Host
from .names import Request

PLAN_LIMIT = 64 * 1024
NOTE_LIMIT = 8 * 1024
NOTES = 1000
ENDINGS = ("new", "old", "mixed", "refused")
WANTS = ("pause", "promote", "abort", "go")

Run = dict[str, Any]


def load(host: Host, app: str) -> Run | None:
    """The last run that came with a plan, ended or not; None when there was none yet."""
    path = host.state(app) / "run.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"run", "token", "ended", "wanted"} <= set(found):
        raise HostctlError(
            "state_damaged",
            f"{path} is not readable; nothing was changed",
            "move it away; what was done is in journal.jsonl beside it",
        )
    return found


def save(host: Host, app: str, run: Run) -> None:
    """Write run.json durably. The caller holds the app's lock."""
    files.write_atomic(host.state(app) / "run.json", json.dumps(run).encode() + b"\n")


def wanted(host: Host, app: str) -> dict[str, object] | None:
    """What somebody asks the run to do: {want, actor, at}, or None."""
    found = load(host, app)
    asked: dict[str, object] | None = found["wanted"] if found else None
    return asked


def taken(host: Host, request: Request) -> Run | None:
    """What run.json must become when this request is granted the lease; None: it stays.

    A lease without a plan never replaces the plan of another run. Raises `Refused`
    (unfinished_run).
    """
    stored, run = load(host, request.app()), request.run()
    plan = request.mapping("plan", PLAN_LIMIT) if request.has("plan") else None
    ours = stored is not None and stored["run"] == run
    fresh = {"run": run, "token": request.token(), "plan": plan}
    fresh.update(notes=[], ended=None, wanted=None)
    if stored is None or not ours:
        if plan is None:
            return None
        if stored and stored["ended"] is None and not request.boolean("replace"):
            raise _unfinished(host, request, stored)
        return fresh
    new = {**stored, "token": request.token()}
    if plan is not None:  # the run is taken up again: what was asked of an ended one is over
        asked = stored["wanted"] if stored["ended"] is None else None
        new = {**fresh, "notes": stored["notes"], "wanted": asked}
    return new if new != stored else None


def _unfinished(host: Host, request: Request, stored: Run) -> Refused:
    app, run = request.app(), stored["run"]
    holder = _last_holder(host, app, run)
    return Refused(
        "unfinished_run",
        f"run {run}{f' of {holder}' if holder else ''} did not end: {app} may be half deployed; "
        "nothing was changed",
        "finish it first: fab deploy.resume or fab deploy.abort",
        run=run,
        **({"holder": holder} if holder else {}),
    )


def _last_holder(host: Host, app: str, run: str) -> str | None:
    """Who held the lease of a run whose lease ran out, if its file is still there."""
    try:
        found = json.loads((host.state(app) / "lease.json").read_text())
        return str(found["holder"]) if found["run"] == run and found["holder"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def released(host: Host, request: Request) -> Run | None:
    """What run.json must become when the request's run gives up the lease; None: it stays."""
    ended = request.choice("ended", ENDINGS) if request.has("ended") else None
    stored = load(host, request.app())
    if ended is None or stored is None or stored["ended"] == ended:
        return None
    ours = stored["run"] == request.run() and stored["token"] == request.token()
    return {**stored, "ended": ended} if ours else None


def want(host: Host, request: Request) -> dict[str, object]:
    """The verb `want`: ask the unfinished run for something; needs no lease, its controller does.

    Returns {wanted, already}. `go` takes back what was asked. Raises `Refused` (no_such_run).
    """
    app, asked = request.app(), request.choice("want", WANTS)
    request.run()
    with record.lock(host, app):
        stored = _of_request(host, request)
        if stored["ended"] is not None:
            raise _no_such_run(request, f"it ended ({stored['ended']})")
        if asked == (stored["wanted"] or {"want": "go"})["want"]:
            return {"wanted": stored["wanted"], "already": True}
        record.change(host, request, "done", want=asked, token=stored["token"])
        new = {"want": asked, "actor": record.actor(request), "at": host.wall()}
        stored["wanted"] = None if asked == "go" else new
        save(host, app, stored)
    return {"wanted": stored["wanted"], "already": False}


def note(host: Host, request: Request) -> dict[str, object]:
    """The verb `note`: what a controller wants another one to know. Returns {notes, already}.

    `notes` is how many there are; the same note twice in a row is one. Raises `Refused`
    (no_such_run, too_large).
    """
    said = request.mapping("note", NOTE_LIMIT)
    with record.fenced(host, request):
        stored = _of_request(host, request)
        notes = stored["notes"]
        if notes and notes[-1] == said:
            return {"notes": len(notes), "already": True}
        if len(notes) >= NOTES:
            raise Refused("too_large", f"run {stored['run']} has {NOTES} notes here already")
        if not _written_down(host, request, said):
            record.change(host, request, "note", note=said)
        notes.append(said)
        save(host, request.app(), stored)
    return {"notes": len(notes), "already": False}


def _written_down(host: Host, request: Request, said: dict[str, object]) -> bool:
    """True when hostctl was killed between writing this note to the journal and to run.json."""
    for entry in journal.newest(host, request.app(), '"event":"note"'):
        if entry.get("event") == "note":
            return (entry.get("run"), entry.get("note")) == (request.run(), said)
    return False


def _of_request(host: Host, request: Request) -> Run:
    stored = load(host, request.app())
    if stored is None or stored["run"] != request.run():
        has = f"this host has run {stored['run']}" if stored else "this host has none"
        raise _no_such_run(request, has)
    return stored


def _no_such_run(request: Request, why: str) -> Refused:
    return Refused(
        "no_such_run",
        f"no run {request.run()} of {request.app()} is at work here: {why}; nothing was changed",
        "see which one is: fab status",
    )
