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


def commands(audit: Iterable[Entry]) -> list[dict[str, Any]]:
    """What `fab run`, `fab shell`, programs and playbooks ran on hosts, oldest first, as NDJSON lines.

    `exit_code` and what follows are null for a command whose operator was killed.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in audit:
        run = str(entry.get("run"))
        if entry.get("event") == "command":
            said = {key: entry.get(key) for key in ("actor", "command", "on", "sudo", "hosts")}
            said |= {"message": entry.get("message") or "", "began": entry["time"]}
            open_ = {"ended": None, "exit_code": None, "failed": None}
            found[run] = {"schema_version": 1, "event": "command", "run": run, **said, **open_}
        elif entry.get("event") == "commanded" and run in found:
            found[run] |= {"ended": entry["time"]}
            found[run] |= {key: entry.get(key) for key in ("exit_code", "failed")}
    return list(found.values())


def verify(audit: Chain, journals: Mapping[str, Chain]) -> tuple[list[Problem], list[str]]:
    """What is wrong with the records of this controller, and notes on what is merely not over."""
    problems, notes = [], []
    if audit.problem:
        problems.append(broken(AUDIT, audit))
    said: dict[str, list[Entry]] = {}
    for entry in audit.entries:
        if entry.get("event") in ("begin", "end"):
            said.setdefault(str(entry["run"]), []).append(entry)
    for run in sorted(said.keys() | journals.keys()):
        chain, record = journals.get(run, Chain(())), said.get(run, [])
        problems += _journal(run, chain, record)
        if _open(record) and not _closed(chain, record):
            notes.append(f"run {run} is unfinished: it began and has not ended here")
        elif not record and chain.entries and only_begun(chain):
            notes.append(f"run {run} was killed as it began: nothing was done")
    return problems, notes


def _journal(run: str, chain: Chain, record: Sequence[Entry]) -> list[Problem]:
    """What is wrong with one run's journal, by itself and by what audit.jsonl has of it."""
    where = name(run)
    found = []
    if chain.problem and not (chain.torn and _open(record)):
        found.append(broken(where, chain))
    if not record:
        if not only_begun(chain):
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


def only_begun(chain: Chain) -> bool:
    """True for a journal of a run that did not come to ask anything of a host."""
    return all(entry.get("event") == "begun" for entry in chain.entries)


def _last(record: Sequence[Entry]) -> int:
    """The number of the journal's line with which the run ended last."""
    return max((int(e["journal"]["seq"]) for e in record if e["event"] == "end"), default=0)


def _closed(chain: Chain, record: Sequence[Entry]) -> bool:
    """True when the journal tells of an end that audit.jsonl does not have."""
    return any(e.get("event") == "ended" for e in chain.entries[_last(record) :])


def broken(where: str, chain: Chain) -> Problem:
    """Where and how a chain breaks; without a number, at the line after the last good one."""
    match = _LINE.match(chain.problem or "")
    if match:
        return Problem(where, int(match[1]), match[2])
    return Problem(where, len(chain.entries) + 1, chain.problem or "")


def name(run: str) -> str:
    """A run's journal, as problems name it."""
    return f"runs/{run}/journal.jsonl"
