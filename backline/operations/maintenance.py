"""The page that edges show instead of the application: on all of them, or told which ones differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backline import wording
from backline.errors import BacklineError, Exit
from backline.transport.port import Answer, Fleet, HostError, Outcome

DEADLINE = 45.0
UNITS = {"m": 60, "h": 3600, "d": 86400}
LONGEST = 14 * 86400
MESSAGE_LIMIT = 500


@dataclass(frozen=True)
class Edge:
    """An edge: whether it shows the page now, and after a reload. `kept`: who switched it, when and why."""

    host: str
    on: bool = False
    after_reload: bool = False
    kept: Mapping[str, Any] | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        unknown = dict.fromkeys(("on", "after_reload") if self.error is not None else ())
        return {"schema_version": 1, "event": "edge", **vars(self), **unknown}


def moment(text: str, now: float) -> float | None:
    """Seconds since the epoch of `90m`, `2h`, or ISO 8601 (UTC unless it says otherwise); None for nothing.

    Raises BacklineError for what is neither, is over, or is more than two weeks away.
    """
    if not text:
        return None
    relative = re.fullmatch(r"\+?(\d{1,5})([mhd])", text)
    if relative:
        found = now + int(relative[1]) * UNITS[relative[2]]
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            raise _when(f"--until {text!r} is no time") from None
        found = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    if not now < found <= now + LONGEST:
        raise _when(f"--until {text} is over, or more than two weeks away")
    return float(round(found))


def words(seconds: float) -> tuple[str, str]:
    """A moment for the page: (ISO 8601, `15:30 UTC, 26 November 2026`)."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%H:%M} UTC, {at.day} {at:%B %Y}"


def one_line(page: str) -> str:
    """A page as HAProxy can hold it: without line breaks, or anything else that cannot be seen."""
    joined = " ".join(line.strip() for line in page.splitlines() if line.strip())
    return "".join(letter if letter.isprintable() else " " for letter in joined)


def collect(fleet: Fleet, hosts: Iterable[str]) -> list[Edge]:
    """Every edge; never raises for one that does not answer. BacklineError when there is none."""
    names = list(hosts)
    if not names:
        raise BacklineError("the inventory has no edge", state="nothing was changed")

    def ask(host: str) -> Answer:
        return fleet.call(host, "maintenance", {"action": "show"}, deadline=DEADLINE)

    return [_edge(h, o) for h, o in fleet.each(names, ask, deadline=DEADLINE).items()]


def require(edges: Iterable[Edge]) -> None:
    """Raises BacklineError unless every edge answered."""
    silent = [edge for edge in edges if edge.error is not None]
    if silent:
        raise BacklineError(
            wording.each((edge.host, edge.error) for edge in silent),
            hosts=[edge.host for edge in silent],
            state="nothing was changed: listeners would see either, by chance",
            hint=f"an edge that is down anyway: --skip {','.join(edge.host for edge in silent)}",
        )


def switch(fleet: Fleet, hosts: Iterable[str], fields: Mapping[str, Any]) -> None:
    """Tells all edges at once. Raises BacklineError (3) when some did and some did not."""
    names = list(hosts)

    def tell(host: str) -> Answer:
        return fleet.call(host, "maintenance", fields, deadline=DEADLINE)

    outcomes = fleet.each(names, tell, deadline=DEADLINE)
    errors = [outcome.error for outcome in outcomes.values() if outcome.error is not None]
    if not errors:
        return
    done = [host for host in names if outcomes[host].error is None]
    raise BacklineError(
        wording.said(errors),
        hosts=[error.host for error in errors],
        state=_state(done, str(fields["action"])),
        hint=errors[0].hint or "the same command again; fab maintenance.status",
        exit_code=Exit.MIXED if done else Exit.ERROR,
    )


def _state(done: list[str], action: str) -> str:
    if not done:
        return "no edge has changed, as far as is known"
    return f"it is {action} on {', '.join(done)} and not on the others: listeners see either, by chance"


def _edge(host: str, outcome: Outcome[Answer]) -> Edge:
    answer = outcome.value
    if answer is None:
        error: HostError | None = outcome.error
        return Edge(host, error=error.message if error else "no answer")
    return Edge(host, bool(answer["on"]), bool(answer["after_reload"]), answer["kept"] or None)


def _when(message: str) -> BacklineError:
    return BacklineError(
        message, state="nothing was changed", hint="--until 90m, 2h or 2026-11-26T15:30Z"
    )
