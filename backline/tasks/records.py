"""The records of runs, read: this controller's files, and the journals that hosts hand over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backline.errors import BacklineError

if TYPE_CHECKING:
    from backline.rollout.audit import Chain
    from backline.transport.fleet import SshFleet

PAGE = 1000
DEADLINE = 25.0


def read_host(hosts: SshFleet, host: str) -> dict[str, Chain]:
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

    lines = (json.dumps(entry).encode() + b"\n" for entry in entries)
    return journal.verify(b"".join(lines)).problem


def read_audit(env: str) -> Chain:
    """The chain of all runs made from here."""
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
