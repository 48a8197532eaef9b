"""The right to change an app, taken on every host of a run and renewed until the run ends.

Each host keeps its own lease and the highest token it ever saw (its fence). The token of a run is
higher than every host's fence, so a run that slept past its lease is refused by all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from backline.errors import BacklineError, Exit
from backline.rollout.events import Event, Report
from backline.transport.port import Answer, Clock, Fleet, HostError, Outcome

LIFETIME = 60.0
RENEW_EVERY = LIFETIME / 4
DEADLINE = 12.0
FENCED = ("stale_token", "lease_required", "lease_held")


@dataclass(frozen=True)
class Run:
    """Who changes what, and why: sent with every change and kept in every host's journal."""

    id: str
    app: str
    actor: str
    message: str = ""

    def fields(self, token: int) -> dict[str, Any]:
        """The fields that every changing verb carries."""
        return {
            "app": self.app,
            "run": self.id,
            "token": token,
            "actor": self.actor,
            "message": self.message,
        }


class Lease:
    """The leases of a run, as a context: taken on all hosts or on none, given back at the end."""

    def __init__(
        self, fleet: Fleet, hosts: Iterable[str], run: Run, clock: Clock, report: Report
    ) -> None:
        self.fleet = fleet
        self.hosts = tuple(hosts)
        self.run = run
        self.clock = clock
        self.report = report
        self.token = 0
        self.lost: dict[str, HostError] = {}
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease renewal", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._take()
        except BaseException:
            self._release()
            raise
        self._renewer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._release()

    def fields(self) -> dict[str, Any]:
        """What every changing verb of this run carries."""
        return self.run.fields(self.token)

    def _take(self) -> None:
        shown = self._ask("show")
        self._demand(shown)
        fences = [int(outcome.value["fence"]) for outcome in shown.values() if outcome.value]
        self.token = max(fences, default=0) + 1
        taken = self._ask("take")
        self._demand(taken)
        self.report(Event("lease", text=f"token {self.token} on {len(self.hosts)} hosts"))

    def _release(self) -> None:
        """Gives back what we hold; a host that does not answer lets it run out by itself."""
        if not self.token:
            return
        for host, outcome in self._ask("release").items():
            if outcome.error is not None and outcome.error.code not in FENCED:
                text = (
                    f"lease not given back ({outcome.error.message}); it ends in {LIFETIME:.0f} s"
                )
                self.report(Event("warning", host=host, text=text))

    def _renew(self) -> None:
        while not self.clock.wait(self._over, RENEW_EVERY):
            for host, outcome in self._ask("renew").items():
                error = outcome.error
                if error is not None and error.code in FENCED and not self._over.is_set():
                    self.lost[host] = error

    def _ask(self, action: str) -> dict[str, Outcome[Answer]]:
        fields: dict[str, Any] = {"app": self.run.app, "action": action}
        if action != "show":
            fields = {**self.fields(), "action": action}
        if action in ("take", "renew"):
            fields |= {"holder": self.run.actor, "lifetime": int(LIFETIME)}
        return self.fleet.each(
            self.hosts,
            lambda host: self.fleet.call(host, "lease", fields, deadline=DEADLINE),
            deadline=DEADLINE,
        )

    def _demand(self, outcomes: Mapping[str, Outcome[Answer]]) -> None:
        errors = [outcome.error for outcome in outcomes.values() if outcome.error]
        if not errors:
            return
        held = [error for error in errors if error.code == "lease_held"]
        if held:
            raise held_by(held)
        raise BacklineError(
            "\n       ".join(f"{error.host}: {error.message}" for error in errors),
            hosts=[error.host for error in errors],
            state="no lease was kept, nothing was changed",
            hint=next((error.hint for error in errors if error.hint), "fab status shows the fleet"),
        )


def held_by(errors: list[HostError]) -> BacklineError:
    """The refusal while another run works on the same app."""
    details = errors[0].details
    expires = float(details.get("expires_in") or LIFETIME)
    return BacklineError(
        f"{details.get('holder') or 'somebody'} is working on this app (run {details.get('run')})",
        hosts=[error.host for error in errors],
        state="nothing was changed",
        hint=f"wait for it; if that run is dead, its lease ends in {expires:.0f} s",
        exit_code=Exit.LEASE_HELD,
    )
