"""Events in words, as people read them while a run goes, and afterwards in its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from backline import wording

if TYPE_CHECKING:
    from backline.rollout.events import Event

BACK, DONE = "rollback", "done"
WORDS = {
    "lease": "lease taken",
    "ship": "shipped",
    "stage": "staged and verified",
    "migrate": "migrated",
    "start": "started",
    "check": "healthy",
    "switch": "switched",
    "stop": "stopped",
    "rollback": "brought back",
    "drain": "drained",
    "undrain": "no longer drained",
    "balance": "balancer",
    "scale": "told how many jobs at once",
}


def subject(event: Event) -> str:
    return "".join(f"{part:9} " for part in (event.host, event.process) if part)


def sentence(event: Event) -> str:
    took = f" ({event.seconds:.1f} s)" if event.seconds and event.seconds >= 0.1 else ""
    if event.kind in SENTENCES:
        return SENTENCES[event.kind](event) + took
    detail = f": {event.text}" if event.text else ""
    return f"{WORDS.get(event.kind, event.kind)}{detail}{took}"


def _phase(event: Event) -> str:
    data = event.data
    if data["phase"] == "batch":
        return f"batch {data['number']} of {data['of']}: {listed(data['hosts']) or 'nobody'}"
    if data["phase"] == "soak":
        return f"watching {wording.hosts(len(data['hosts']))} for {data['seconds']:g} s"
    if data["phase"] == "retreat":
        return f"going back: {event.text}"
    return f"{data['phase']}: {wording.hosts(len(data['hosts']))}"


def _stopped(event: Event) -> str:
    if event.data.get("after"):
        return f"{event.release} stays warm for {event.data['after']:g} s"
    if event.data.get("wait") is False:
        return f"{event.release} finishes what it has"
    return f"{event.release} stopped"


def verdict(event: Event) -> str:
    data = event.data
    judged = {True: "well", False: "ILL", None: "too few requests to tell"}[data.get("well")]
    median = f", median {data['median_ms']:.0f} ms" if data.get("median_ms") else ""
    usual = f" (before {data['usual_median_ms']:.0f})" if data.get("usual_median_ms") else ""
    said = f"; {event.text}" if event.text else ""
    return f"{judged}: {data['requests']} requests, {data['failed']} failed{median}{usual}{said}"


def _ship(event: Event) -> str:
    return f"shipped {event.data.get('bytes', 0) / 1e6:.2f} MB"


def _ended(event: Event) -> str:
    return "ended well" if not event.data.get("exit_code") else "ended"


SENTENCES: dict[str, Callable[[Event], str]] = {
    "phase": _phase,
    "stop": _stopped,
    BACK: lambda event: f"on {event.release}",
    "verdict": verdict,
    "ship": _ship,
    "ended": _ended,
    "quarantine": lambda event: f"in quarantine: {', '.join(event.data['hosts'])}",
}


def listed(hosts: Iterable[str]) -> str:
    from backline.selection import fold

    names = list(hosts)
    return fold(names) if names else ""
