"""Who changed what, when and why, from the controller's records; and whether those still hold. Pure.

Three chains hold each other: audit.jsonl has the begin and end of every run, and each end names the
last line of the run's journal; each change in a host's journal names a line of the run's journal.
So whoever rewrites one of them, hashes and all, is given away by the other two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

AUDIT = "audit.jsonl"
Entry = Mapping[str, Any]
_LINE = re.compile(r"line (\d+) (.*)", re.DOTALL)
_TOKEN = re.compile(r"token (\d+) ")


@dataclass(frozen=True)
class Chain:
    """One journal, read: its whole records, what is wrong with the chain (or None), and whether the
    last line merely lacks its end, as after a power cut."""

    entries: Sequence[Entry]
    problem: str | None = None
    torn: bool = False


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was written. `where`: the file or host; `line`: its line, or 0."""

    where: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.where}{f' line {self.line}' if self.line else ''}: {self.what}"


@dataclass(frozen=True)
class Sitting:
    """One time that a controller worked on a run: from a `begin` to its `end`, if it came to one.

    `resumed`: it did not, and somebody went on with the run later.
    """

    run: str
    begin: Entry
    end: Entry | None
    journal: Sequence[Entry] = ()

    resumed: bool = False

    @property
    def closing(self) -> Entry | None:
        """The journal's own last word on this sitting."""
        if self.end is None:
            return None
        last = int(self.end["journal"]["seq"])
        found = [e for e in self.journal if e["seq"] <= last and e.get("event") == "ended"]
        return found[-1] if found else None

    def as_json(self) -> dict[str, Any]:
        """The NDJSON line. `ended` and what follows are null for a run that is not over."""
        closing = self.closing or {}
        end = self.end["time"] if self.end else None
        return {
            "schema_version": 1,
            "run": self.run,
            "began": self.begin["time"],
            "ended": end,
            "seconds": round(end - self.begin["time"], 1) if end else None,
            **{key: self.begin.get(key) for key in ("actor", "how", "release", "plan", "hosts")},
            "message": self.begin.get("message", ""),
            "exit_code": closing.get("exit_code"),
            "gone_on_with": self.resumed,
            "text": closing.get("text", ""),
            "state": closing.get("state", ""),
        }


def sittings(audit: Iterable[Entry], journals: Mapping[str, Sequence[Entry]]) -> list[Sitting]:
    """All sittings, in the order in which they began. A begin without an end stays open."""
    found: list[Sitting] = []
    open_: dict[str, int] = {}
    for entry in audit:
        run = str(entry.get("run"))
        if entry.get("event") == "begin":
            if run in open_:
                found[open_[run]] = replace(found[open_[run]], resumed=True)
            open_[run] = len(found)
            found.append(Sitting(run, entry, None, journals.get(run, ())))
        elif entry.get("event") == "end" and run in open_:
            number = open_.pop(run)
            found[number] = replace(found[number], end=entry)
    return found


def verify(audit: Chain, journals: Mapping[str, Chain]) -> tuple[list[Problem], list[str]]:
    """What is wrong with the records of this controller, and notes on what is merely not over."""
    problems, notes = [], []
    if audit.problem:
        problems.append(_broken(AUDIT, audit))
    said: dict[str, list[Entry]] = {}
    for entry in audit.entries:
        if entry.get("event") in ("begin", "end"):
            said.setdefault(str(entry["run"]), []).append(entry)
    for run in sorted(said.keys() | journals.keys()):
        chain, record = journals.get(run, Chain(())), said.get(run, [])
        problems += _journal(run, chain, record)
        if _open(record) and not _closed(chain, record):
            notes.append(f"run {run} is unfinished: it began and has not ended here")
    return problems, notes


def _journal(run: str, chain: Chain, record: Sequence[Entry]) -> list[Problem]:
    """What is wrong with one run's journal, by itself and by what audit.jsonl has of it."""
    where = name(run)
    found = []
    if chain.problem and not (chain.torn and _open(record)):
        found.append(_broken(where, chain))
    if not record:
        if chain.entries:
            found.append(Problem(AUDIT, 0, f"run {run} has a journal and no begin here: dropped"))
        return found
    for entry in record:
        if entry["event"] == "end":
            found += _end(where, chain, entry)
    if not _open(record) and len(chain.entries) > _last(record):
        found.append(Problem(where, _last(record) + 1, "was added after the run had ended"))
    if _open(record) and _closed(chain, record):
        what = f"run {run} ended, says its journal, and its end is missing here: dropped, or the "
        found.append(Problem(AUDIT, 0, what + "controller was killed in that very moment"))
    return found + _begins(where, chain, record)


def _begins(where: str, chain: Chain, record: Sequence[Entry]) -> list[Problem]:
    """Whether the journal and audit.jsonl say the same of who began what, and why."""
    said = Counter(_said(e, "message", "plan") for e in record if e["event"] == "begin")
    found = []
    for entry in chain.entries:
        if entry.get("event") == "begun":
            told = _said(entry, "text", "digest")
            if said[told] <= 0:
                what = "who, why, how, release or plan are not what audit.jsonl says"
                found.append(Problem(where, int(entry["seq"]), what))
            said[told] -= 1
    return found


def _said(entry: Entry, *names: str) -> tuple[str, ...]:
    return tuple(str(entry.get(key) or "") for key in ("actor", "how", "release", *names))


def _end(where: str, chain: Chain, end: Entry) -> list[Problem]:
    """Whether the journal has the line that was its last when the run ended."""
    seq, digest = int(end["journal"]["seq"]), end["journal"]["hash"]
    if len(chain.entries) < seq:
        if chain.problem:
            return []  # said already: what comes after a damaged line was not read
        have = f"it ends at line {len(chain.entries)}" if chain.entries else "it is gone"
        return [Problem(where, seq, f"is missing, {have}; the run ended with line {seq}")]
    if chain.entries[seq - 1]["hash"] != digest:
        return [Problem(where, seq, "is not the line with which the run ended: rewritten")]
    return []


def _open(record: Sequence[Entry]) -> bool:
    """True when the run was begun, or taken up again, and has not ended since."""
    return bool(record) and record[-1]["event"] == "begin"


def _last(record: Sequence[Entry]) -> int:
    """The number of the journal's line with which the run ended last."""
    return max((int(e["journal"]["seq"]) for e in record if e["event"] == "end"), default=0)


def _closed(chain: Chain, record: Sequence[Entry]) -> bool:
    """True when the journal tells of an end that audit.jsonl does not have."""
    return any(e.get("event") == "ended" for e in chain.entries[_last(record) :])


def _broken(where: str, chain: Chain) -> Problem:
    """Where and how a chain breaks; without a number, at the line after the last good one."""
    match = _LINE.match(chain.problem or "")
    if match:
        return Problem(where, int(match[1]), match[2])
    return Problem(where, len(chain.entries) + 1, chain.problem or "")


def name(run: str) -> str:
    """A run's journal, as problems name it."""
    return f"runs/{run}/journal.jsonl"


def compare(
    host: str, app: str, theirs: Chain, journals: Mapping[str, Chain]
) -> tuple[list[Problem], set[str]]:
    """What is wrong with a host's journal, or with ours by what the host says; and the runs that the
    host knows and we have no journal of (another controller's, or removed here)."""
    where = f"{host} ({app})"
    found = [_broken(where, theirs)] if theirs.problem else []
    strangers = set()
    for entry in theirs.entries:
        run, head = entry.get("run"), entry.get("controller")
        if run is None:
            continue
        ours = journals.get(str(run))
        if ours is None or not ours.entries:
            strangers.add(str(run))
        elif isinstance(head, Mapping):
            found += _head(host, str(run), ours, entry, head)
    if not theirs.problem:
        found += _forgotten(host, where, theirs, journals)
    return found, strangers


def _head(host: str, run: str, ours: Chain, entry: Entry, head: Entry) -> list[Problem]:
    """Whether a line of ours is what it was when the host was told of it.

    Only for lines written under the host's token: a run may go on from another controller, whose
    journal is not ours, and what a killed controller said last may never have reached its disk.
    """
    reach = _reach(ours, entry.get("token"))
    seq = int(head.get("seq") or 0)
    if reach is None or (seq > reach[0] and not reach[1]):
        return []
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
        match = _TOKEN.match(str(entry.get("text"))) if event == "lease" else None
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
