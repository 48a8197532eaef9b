"""A run as its report shows it: from the journal's events and the probe's samples. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backline.rollout import axis as axes
from backline.rollout import changes, timeline, traffic
from backline.rollout.axis import Axis
from backline.rollout.judge import percentile
from backline.rollout.sample import Sample

ENDINGS = {
    "0": ("good", "Done"),
    "1": ("bad", "Failed"),
    "3": ("bad", "Stopped, the fleet is mixed"),
    "4": ("bad", "Rolled back"),
    "5": ("warn", "Refused, another run held the lease"),
    "6": ("warn", "Refused by a guard"),
    "130": ("warn", "Interrupted"),
}
NEAR = 0.8
"""Percent of the axis."""
Event = Mapping[str, Any]
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows; the fields are what the template's sections are called."""

    head: dict[str, Any]
    summary: dict[str, Any]
    axis: Axis
    bands: list[timeline.Band]
    rows: list[timeline.Row]
    hidden: int
    switches: list[tuple[float, str]]
    charts: traffic.Charts | None
    latency: list[dict[str, Any]]
    failures: list[tuple[int, str]]
    batches: list[dict[str, Any]]
    notices: list[dict[str, Any]]
    changes: changes.Changes | None
    missing: list[str]
    buckets: list[traffic.Bucket]

    def as_json(self) -> dict[str, Any]:
        """For programs: what the page says in numbers and words, without the geometry."""
        return {
            "schema_version": 1,
            **self.head,
            "summary": self.summary,
            "latency": self.latency,
            "batches": self.batches,
            "notices": self.notices,
            "seconds_of_traffic": [bucket.as_data() for bucket in self.buckets],
        }


def assemble(
    env: str,
    events: Sequence[Event],
    samples: Sequence[Sample],
    documents: Mapping[str, Document],
) -> Report:
    """The report of one run. `documents`: release.json by release, as far as they are at hand.

    Raises ValueError when the journal tells of no run.
    """
    begun = [event for event in events if event.get("event") == "begun"]
    if not begun:
        raise ValueError("this journal tells of no run")
    events = [event for event in events if "time" in event]
    plan = begun[0]["plan"]
    axis = axes.of((str(event["event"]), float(event["time"])) for event in events)
    head = _head(env, events, begun, axis)
    rows = timeline.rows(events, list(dict.fromkeys(s["host"] for s in plan["steps"])), axis)
    shown = timeline.drawn(rows)
    width = traffic.bucket_width(axis)
    found = traffic.buckets(samples, axis.spans[0][0], width)
    former = head["before"][0] if head["before"] else None
    wanted = [release for release in (former, plan["release"]) if release]
    known = [documents[release] for release in wanted if release in documents]
    return Report(
        head=head,
        summary=_summary(events, plan, rows, samples, documents.get(plan["release"])),
        axis=axis,
        bands=timeline.bands(events, axis),
        rows=shown,
        hidden=len(rows) - len(shown),
        switches=_switches(events, axis),
        charts=traffic.charts(found, axis, plan["release"], width) if samples else None,
        latency=_latency(samples, plan["release"]),
        failures=traffic.reasons(samples),
        batches=_batches(events),
        notices=_notices(events),
        changes=changes.between(*known) if len(known) == 2 else None,
        missing=[release for release in wanted if release not in documents],
        buckets=found,
    )


def _head(env: str, events: Sequence[Event], begun: Sequence[Event], axis: Axis) -> dict[str, Any]:
    first, last = begun[0], events[-1]
    plan = first["plan"]
    ended = last if last.get("event") == "ended" else {}
    code = ended.get("exit_code")
    tone, words = ENDINGS.get(str(code), ("bad", "Ended")) if ended else ("warn", "Not finished")
    if begun[-1].get("how") == "abort" and code == 0:
        tone, words = "warn", "Taken back"
    before = Counter(s["live"] for s in plan["steps"] if s["live"] not in (None, plan["release"]))
    return {
        "environment": env,
        "run": first.get("run", ""),
        "app": plan["app"],
        "action": plan["action"],
        "release": plan["release"],
        "version": plan["version"],
        "before": [release for release, _ in before.most_common()],
        "plan": first.get("digest", ""),
        "message": first.get("text", ""),
        "sittings": [
            {"how": e.get("how"), "actor": e.get("actor"), "time": e["time"]} for e in begun
        ],
        "began": first["time"],
        "seconds": round(axis.seconds, 1),
        "ended": {
            "tone": tone,
            "words": words,
            "exit_code": code,
            "text": ended.get("text", ""),
            "state": ended.get("state", ""),
            "hint": ended.get("hint", ""),
            "hosts": ended.get("hosts") or [],
        },
    }


def _summary(
    events: Sequence[Event],
    plan: Mapping[str, Any],
    rows: Sequence[timeline.Row],
    samples: Sequence[Sample],
    document: Document | None,
) -> dict[str, Any]:
    ships = [event for event in events if event.get("event") == "ship"]
    quarantine = [e for e in events if e.get("event") == "quarantine"]
    begun = {e["number"] for e in events if e.get("phase") == "batch"}
    archive = ((document or {}).get("archive") or {}).get("zst_size")
    receivers = len({event.get("host") for event in ships})
    return {
        "hosts": len(rows),
        "failed_hosts": sum(row.failed for row in rows),
        "quarantined": sorted(quarantine[-1].get("hosts") or ()) if quarantine else [],
        "batches": len(plan["batches"]),
        "batches_begun": len(begun),
        "receivers": receivers,
        "shipped_bytes": sum(int(event.get("bytes") or 0) for event in ships),
        "whole_bytes": archive * receivers if archive else None,
        "requests": len(samples),
        "failed_requests": sum(not sample.ok for sample in samples),
    }


def _switches(events: Sequence[Event], axis: Axis) -> list[tuple[float, str]]:
    """Where in time processes changed their release, there or back; those close by share a line."""
    found: list[tuple[float, list[str]]] = []
    for event in events:
        if event.get("event") in ("switch", "rollback") and not event.get("already"):
            place = axis.at(event["time"])
            if not found or place - found[-1][0] > NEAR:
                found.append((place, []))
            words = f"{event.get('host')} {event.get('process')} → {event.get('release')}"
            found[-1][1].append(words)
    return [
        (place, "\n".join([*words[:10], *([f"and {len(words) - 10} more"] * (len(words) > 10))]))
        for place, words in found
    ]


def _latency(samples: Sequence[Sample], new: str) -> list[dict[str, Any]]:
    """How each release answered, the run's own last."""
    by_release: dict[str, list[float]] = {}
    for sample in samples:
        if sample.ok:
            by_release.setdefault(sample.release or "", []).append(sample.ms)
    return [
        {
            "release": release,
            "new": release == new,
            "requests": len(ms),
            "p50_ms": percentile(ms, 0.5),
            "p99_ms": percentile(ms, 0.99),
        }
        for release, ms in sorted(by_release.items(), key=lambda pair: (pair[0] == new, pair[0]))
    ]


def _batches(events: Sequence[Event]) -> list[dict[str, Any]]:
    """One entry for each time that a batch was begun, with the verdict after it."""
    found: list[dict[str, Any]] = []
    for event in events:
        kind, phase = event.get("event"), event.get("phase")
        over = phase in ("batch", "finish", "retreat") or kind in ("ended", "begun")
        if over and found and found[-1]["seconds"] is None:
            found[-1]["seconds"] = round(event["time"] - found[-1]["began"], 1)
        if phase == "batch":
            found.append(
                {
                    "number": event.get("number"),
                    "of": event.get("of"),
                    "hosts": list(event.get("hosts") or ()),
                    "began": event["time"],
                    "seconds": None,
                    "verdict": None,
                }
            )
        elif kind == "verdict" and found:
            keys = ("well", "requests", "failed", "median_ms", "usual_median_ms", "p99_ms", "text")
            found[-1]["verdict"] = {key: event.get(key) for key in keys}
    return found


def _notices(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What went wrong, or was said by an operator, in its order, each once."""
    found: list[dict[str, Any]] = []
    for event in events:
        kind = str(event.get("event"))
        bad = kind == "verdict" and event.get("well") is False
        if kind not in ("warning", "failed", "wanted") and not bad:
            continue
        entry = {
            "kind": kind,
            "time": event["time"],
            "host": event.get("host") or "",
            "process": event.get("process") or "",
            "text": str(event.get("text") or ""),
        }
        if not found or not _repeats(entry, found[-1]):
            found.append(entry)
    return found


def _repeats(entry: Mapping[str, Any], last: Mapping[str, Any]) -> bool:
    """True when `entry` says nothing that `last` did not: a failure is warned of once more."""
    if entry["host"] != last["host"]:
        return False
    again = entry["kind"] == "warning" and last["kind"] in ("failed", "verdict")
    same = entry["kind"] == last["kind"] and entry["process"] == last["process"]
    return bool(
        last["text"].endswith(entry["text"]) if again else same and entry["text"] == last["text"]
    )
