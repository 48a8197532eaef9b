"""What the hosts' journals say of the controller's, and the other way round. Pure.

Each change in a host's journal names the line of the run's journal that it followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backline.rollout.audit import Chain, Entry, Problem, broken, name, only_begun

TOKEN = re.compile(r"token (\d+) ")


def compare(
    host: str, app: str, theirs: Chain, journals: Mapping[str, Chain]
) -> tuple[list[Problem], set[str]]:
    """What is wrong with a host's journal, or with ours by what the host says; and the runs that the
    host knows and we have no journal of (another controller's, or removed here).

    Only lines written under the host's token are compared: a run may go on from another controller,
    whose journal is not ours. And one line past our end is accepted of a run that was cut off: what a
    killed controller said last may never have reached its disk.
    """
    where = f"{host} ({app})"
    found = [broken(where, theirs)] if theirs.problem else []
    strangers = set()
    beyond: dict[tuple[str, Any], set[int]] = {}
    for entry in theirs.entries:
        run, head = entry.get("run"), entry.get("controller")
        if run is None:
            continue
        ours = journals.get(str(run))
        if ours is None or only_begun(ours):
            strangers.add(str(run))
        elif isinstance(head, Mapping):
            reach, seq = _reach(ours, entry.get("token")), int(head.get("seq") or 0)
            if reach and seq > reach[0] and not reach[1]:
                beyond.setdefault((str(run), entry.get("token")), set()).add(seq)
            elif reach:
                found += _head(host, str(run), ours, entry, head)
    found += [
        Problem(name(run), min(seqs), f"is missing; {host} names it and {len(seqs) - 1} later ones")
        for (run, _), seqs in beyond.items()
        if len(seqs) > 1
    ]
    if not theirs.problem:
        found += _forgotten(host, where, theirs, journals)
    return found, strangers


def _head(host: str, run: str, ours: Chain, entry: Entry, head: Entry) -> list[Problem]:
    """Whether a line of ours is what it was when the host was told of it."""
    seq = int(head.get("seq") or 0)
    where = name(run)
    if seq > len(ours.entries):
        if ours.problem:
            return []
        return [Problem(where, seq, f"is missing; line {entry['seq']} of {host} names it")]
    if ours.entries[seq - 1]["hash"] != head.get("hash"):
        return [Problem(where, seq, f"is not what line {entry['seq']} of {host} says: rewritten")]
    return []


def _reach(ours: Chain, token: Any) -> tuple[int, bool] | None:
    """The last line written while we held `token`, and whether that sitting came to its end."""
    found: tuple[int, bool] | None = None
    for entry in ours.entries:
        event = entry.get("event")
        if found and event == "begun":
            break
        match = TOKEN.match(str(entry.get("text"))) if event == "lease" else None
        if found or (match and int(match[1]) == token):
            found = (int(entry["seq"]), event == "ended")
    return found


def _forgotten(
    host: str, where: str, theirs: Chain, journals: Mapping[str, Chain]
) -> list[Problem]:
    """Switches that we saw done on the host, and of which it knows nothing any more.

    A host that was built anew knows nothing of what was before its first line: that is no problem.
    """
    known = {(str(e.get("run")), e.get("verb"), e.get("process")) for e in theirs.entries}
    since = min((float(e.get("at") or 0) for e in theirs.entries), default=None)
    found = []
    for run, chain in journals.items():
        for entry in chain.entries:
            switched = entry.get("event") == "switch" and entry.get("host") == host
            if not switched or entry.get("already") or since is None or entry["time"] < since:
                continue
            if (run, "switch", entry.get("process")) not in known:
                what = f"the switch of {entry.get('process')} in run {run} is missing: dropped"
                found.append(Problem(where, 0, what))
    return found
