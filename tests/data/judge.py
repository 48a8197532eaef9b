"""What logs prove of a fault: rows that were lost, two hosts that took writes, how long clients waited.

Nothing here looks at a host. All times are of the machine's monotonic clock, which its containers share.

A host is *writable* when it acknowledges a commit: a server that takes an INSERT and then waits for a
standby that is gone for good has promised nothing. Whether two hosts were writable at once is decided by
what is certain: a commit that was acknowledged happened at one moment between the question and the
answer, and a host that acknowledges one commit after another was writable from the first answer to the
last question. Doubt is decided in favour of the cluster; what it hides shows as a lost row, since a
row that was acknowledged by a host that lost its role later has to be there in the end too.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]

CONTINUOUS = 1.0
"""Seconds between two acknowledged commits of a host within which it counts as writable all the time."""


@dataclass(frozen=True)
class Sample:
    """One question of a watcher: can this host take a write? `told` is None while nobody has answered."""

    via: str
    host: str
    asked: float
    told: float | None
    yes: bool
    id: str = ""


@dataclass(frozen=True)
class Span:
    """From `begin` to `end` the host was certainly writable, as one watcher saw it."""

    via: str
    host: str
    begin: float
    end: float

    def __str__(self) -> str:
        return f"{self.host} ({self.via}) {self.begin:.3f}-{self.end:.3f}"


def entries(file: Path) -> Iterator[Entry]:
    """The lines of a log."""
    return parse(file.read_text(encoding="utf-8"))


def parse(text: str) -> Iterator[Entry]:
    """What lines say. One that was cut off in the middle, by a kill, says nothing."""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def samples(log: Iterable[Entry]) -> list[Sample]:
    """What a watcher's log holds."""
    return [
        Sample(e["via"], e["host"], e["asked"], e["told"], e["answer"] == "yes", e.get("id", ""))
        for e in log
        if "answer" in e
    ]


def runs(found: Sequence[Sample]) -> Iterator[list[tuple[float, float]]]:
    """(asked, told) of commits that one watcher saw one host acknowledge, one after the other."""
    run: list[tuple[float, float]] = []
    for sample in sorted(found, key=lambda sample: sample.asked):
        told = sample.told
        if not sample.yes or told is None or (run and told - run[-1][1] > CONTINUOUS):
            if run:
                yield run
            run = []
        if sample.yes and told is not None:
            run.append((sample.asked, told))
    if run:
        yield run


def spans(found: Iterable[Sample]) -> list[Span]:
    """When hosts were certainly writable. A single acknowledged commit is a moment, and no span."""
    by: dict[tuple[str, str], list[Sample]] = {}
    for sample in found:
        by.setdefault((sample.via, sample.host), []).append(sample)
    return sorted(
        (
            Span(via, host, run[0][1], run[-1][0])
            for (via, host), theirs in by.items()
            for run in runs(theirs)
            if run[0][1] <= run[-1][0]
        ),
        key=lambda span: span.begin,
    )


def two_writable(found: Sequence[Sample]) -> list[str]:
    """Each proof that two hosts were writable at once: two spans, or a span and a commit within it."""
    certain = spans(found)
    proofs = [
        f"{one} and {other}"
        for one, other in itertools.combinations(certain, 2)
        if one.host != other.host and max(one.begin, other.begin) < min(one.end, other.end)
    ]
    for sample in found:
        if not sample.yes or sample.told is None:
            continue
        proofs += [
            f"{span} and a commit of {sample.host} ({sample.via}) {sample.asked:.3f}-{sample.told:.3f}"
            for span in certain
            if span.host != sample.host and span.begin <= sample.asked and sample.told <= span.end
        ]
    return proofs


def lost(acknowledged: Iterable[str], found: Iterable[str]) -> list[str]:
    """What was acknowledged, and is not there."""
    return sorted(set(acknowledged) - set(found))


def longest(times: Iterable[float], end: float | None = None) -> float:
    """The longest time between two of them, and until `end`, in seconds. 0 for none."""
    known = sorted(times)
    if end is not None and known:
        known.append(max(end, known[-1]))
    return max((after - before for before, after in itertools.pairwise(known)), default=0.0)


@dataclass(frozen=True)
class Clients:
    """What writers saw. Times in seconds.

    `errors`: tries that failed. `gave_up`: by how often a client tries again (0: never), the rows that it
    could not write. `pause`: the longest that any one client waited from one acknowledged row to its
    next. `gap`: the longest that no client had a row acknowledged.
    """

    acknowledged: tuple[str, ...]
    errors: int
    gave_up: Mapping[int, int]
    pause: float
    gap: float
    why: Mapping[str, int] = field(default_factory=dict)


def clients(logs: Sequence[Sequence[Entry]]) -> Clients:
    """Judges the logs of writers: one for each program, which has several clients."""
    ids: list[str] = []
    gave_up: Counter[int] = Counter()
    why: Counter[str] = Counter()
    everybody: list[float] = []
    pauses: list[float] = []
    ends: list[float] = []
    for log in logs:
        retries = next((int(entry["retries"]) for entry in log if entry["what"] == "begin"), 0)
        gave_up[retries] += sum(entry["what"] == "gave up" for entry in log)
        why.update(str(entry["why"]) for entry in log if entry["what"] == "error")
        acks = [entry for entry in log if entry["what"] == "ack"]
        ids += [entry["id"] for entry in acks]
        everybody += [entry["told"] for entry in acks]
        end = max((entry["told"] for entry in log if "told" in entry), default=0.0)
        ends.append(end)
        by: dict[str, list[float]] = {}
        # A client that never wrote has waited since the beginning.
        for entry in log:
            if entry["what"] == "client":
                by.setdefault(entry["client"], []).append(entry["told"])
        for entry in acks:
            by.setdefault(entry["client"], []).append(entry["told"])
        pauses += [longest(times, end) for times in by.values()]
    return Clients(
        tuple(ids),
        sum(why.values()),
        dict(gave_up),
        max(pauses, default=0.0),
        longest(everybody, max(ends, default=None)),
        dict(why),
    )


@dataclass(frozen=True)
class Jobs:
    """What publishers were promised, and consumers did.

    `refused`: tries that failed. `gave_up`: jobs that were not confirmed at the second try either. `gap`:
    the longest that one consumer had nothing done, in seconds.
    """

    confirmed: int
    lost: list[str]
    refused: int
    gave_up: int
    gap: float
    ended: bool

    def safe(self) -> None:
        """What was confirmed was done. Jobs may wait still if a program did not come to its end."""
        assert self.ended, "a publisher or a consumer did not come to its end"
        assert self.confirmed, "nobody published"
        assert not self.lost, f"LOST {len(self.lost)}: {self.lost[:10]}"


def jobs(logs: Sequence[Sequence[Entry]]) -> Jobs:
    """Judges the logs of publishers and consumers of one queue."""
    confirmed = [e["id"] for log in logs for e in log if e["what"] == "confirmed"]
    done = [e["id"] for log in logs for e in log if e["what"] == "done"]
    gaps = []
    for log in logs:
        # Until publishing ends: after that there is nothing to do.
        end = next((e["told"] for e in log if e["what"] == "published"), None)
        until = float("inf") if end is None else end
        times = [e["told"] for e in log if e["what"] in ("done", "consumes") and e["told"] <= until]
        gaps.append(longest(times, end))
    told = Counter(e["what"] for log in logs for e in log)
    return Jobs(
        len(confirmed),
        lost(confirmed, done),
        told["refused"],
        told["gave up"],
        max(gaps, default=0.0),
        bool(logs) and all(log and log[-1]["what"] == "end" for log in logs),
    )


def blind(found: Sequence[Sample], hosts: Sequence[str]) -> list[str]:
    """Whom nobody watched, and watchers that never saw any host take a write: they prove nothing."""
    problems = []
    for via in ("beside", "network"):
        theirs = [sample for sample in found if sample.via == via]
        seen = {sample.host for sample in theirs}
        problems += [f"nobody watched {host} ({via})" for host in hosts if host not in seen]
        if not any(sample.yes for sample in theirs):
            problems.append(f"no watcher ({via}) saw any host take a write")
    return problems


def spread(values: Sequence[float]) -> tuple[float, float] | None:
    """(median, greatest) of them; None of none."""
    return (statistics.median(values), max(values)) if values else None
