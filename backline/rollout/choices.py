"""Which release is meant, and whether the way there is open. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backline.errors import BacklineError, Exit


def choose_rollback(statuses: Mapping[str, Mapping[str, Any]], to: str = "") -> str:
    """Which release to go back to: `to`, or the last one marked good before the one that is live.

    Raises BacklineError when there is none.
    """
    if to:
        bad = [h for h, s in statuses.items() if _state(s, to) == "bad"]
        if bad:
            raise BacklineError(
                f"release {to} was marked bad",
                hosts=bad,
                state="nothing was changed",
                hint=f"choose another, or roll it out again: fab deploy --release {to}",
                exit_code=Exit.GUARD_REFUSED,
            )
        return to
    live = {
        process["live"] for status in statuses.values() for process in status["processes"].values()
    } - {None}
    orders = [_good(status) for status in statuses.values()]
    for candidate in reversed(orders[0] if orders else []):
        if candidate not in live and all(candidate in order for order in orders):
            return candidate
    raise BacklineError(
        "there is no earlier release that was marked good on every host",
        state=f"nothing was changed; live: {', '.join(sorted(live)) or 'nothing'}",
        hint="name one of those in `fab status --json`: fab rollback --to ID",
    )


def _good(status: Mapping[str, Any]) -> list[str]:
    """The good releases up to the live one, in the order they were marked where the host says so."""
    good = [entry["id"] for entry in status["releases"] if entry["state"] == "good"]
    order = [identity for identity in status.get("good", good) if identity in good]
    current = status.get("current")
    return order[: order.index(current)] if current in order else order


def _state(status: Mapping[str, Any], release: str) -> str | None:
    return next((e["state"] for e in status["releases"] if e["id"] == release), None)


def the_live_release(statuses: Mapping[str, Mapping[str, Any]]) -> str:
    """What all of these hosts run. Raises BacklineError when they differ."""
    live = {
        process["live"] for status in statuses.values() for process in status["processes"].values()
    }
    if len(live) == 1 and None not in live:
        return str(live.pop())
    raise BacklineError(
        f"the other hosts run {', '.join(sorted(map(str, live))) or 'nothing'}: "
        "it is not clear what these should get",
        hosts=statuses,
        state="nothing was changed",
        hint="bring the fleet to one release first: fab deploy, or fab rollback",
        exit_code=Exit.GUARD_REFUSED,
    )


def guard_schema(
    statuses: Mapping[str, Mapping[str, Any]], release: str, accept: bool = False
) -> None:
    """Refuses a release that is older than one whose contract migrations have run.

    Those took away what it may need. IDs are minted in order, so they compare. Raises BacklineError.
    """
    contracted = {entry for status in statuses.values() for entry in status.get("contracted", ())}
    newer = sorted(entry for entry in contracted if entry > release)
    if newer and not accept:
        raise BacklineError(
            f"the contract migrations of {newer[-1]} have run: {release} may miss what they took away",
            state="nothing was changed",
            hint="go to a newer release, or, if you know that it works, add --accept-schema",
            exit_code=Exit.GUARD_REFUSED,
        )
