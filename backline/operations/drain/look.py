"""What a drain is judged by: the app's processes on the hosts, and the balancers' view of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.transport.port import Answer, Fleet, HostError

DEADLINE = 25.0
RUNS = ("active", "activating", "reloading", "deactivating")
SERVES = ("up", "starting")
"""What hostctl calls a server that a balancer sends new requests to; `starting` gets fewer at first."""


@dataclass(frozen=True)
class Process:
    """A process with a live release on a host. `runs`: an instance of that release is there."""

    host: str
    name: str
    kind: str
    live: str
    runs: bool


@dataclass(frozen=True)
class View:
    """The app's hosts by their answers, and each balancer's {backend: {server: state}}.

    `kept_out`: servers that a balancer was told to keep out, by balancer.
    """

    app: str
    statuses: Mapping[str, Answer]
    balancers: Mapping[str, Mapping[str, Mapping[str, str]]]
    kept_out: Mapping[str, tuple[str, ...]]

    def processes(self, host: str) -> list[Process]:
        """What is live on a host, web processes first: nothing waits for a pool's jobs."""
        found = processes(host, self.statuses[host])
        return sorted(found, key=lambda process: process.kind != "http")

    def drained(self, host: str) -> bool:
        """Whether its flag is up."""
        return bool(self.statuses[host]["drained"])


def processes(host: str, status: Mapping[str, Any]) -> list[Process]:
    """The processes of a host that have a live release."""
    found = []
    for name, entry in status["processes"].items():
        live = entry["live"]
        if live:
            active = {one["release"]: one["active"] for one in entry["instances"]}
            found.append(Process(host, name, entry["kind"], live, active.get(live) in RUNS))
    return found


def collect(
    fleet: Fleet, app: str, hosts: Iterable[str], others: Iterable[str], balancers: Iterable[str]
) -> View:
    """Asks everybody at once. Raises BacklineError when one of `hosts` or of `balancers` is silent.

    `others` run the app as well; of those it does not matter who answers.
    """
    wanted, watching = list(hosts), list(balancers)
    asked = dict.fromkeys([*wanted, *others])

    def ask(host: str) -> Answer:
        return fleet.call(host, "status", {"app": app}, deadline=DEADLINE)

    def balance(host: str) -> Answer:
        return fleet.call(host, "balance", {"action": "show"}, deadline=DEADLINE)

    answers = fleet.each(asked, ask, deadline=DEADLINE)
    _require(app, {host: answers[host].error for host in wanted})
    views = fleet.each(watching, balance, deadline=DEADLINE)
    _require_balancers({host: outcome.error for host, outcome in views.items()})
    shown = {host: outcome.value for host, outcome in views.items() if outcome.value is not None}
    return View(
        app,
        {host: outcome.value for host, outcome in answers.items() if outcome.value is not None},
        {host: answer["servers"] for host, answer in shown.items()},
        {host: tuple(answer["out"]) for host, answer in shown.items()},
    )


def _require(app: str, errors: Mapping[str, HostError | None]) -> None:
    found = [error for error in errors.values() if error is not None]
    if not found:
        return
    strangers = [error for error in found if error.code == "unknown_app"]
    if strangers:
        raise BacklineError(
            f"no process of {app} runs on {', '.join(error.host for error in strangers)}",
            hosts=[error.host for error in strangers],
            state="nothing was changed",
            hint="streaming and worker hosts are drained; fab restart and fab reboot know how the "
            "others leave, fab db.switchover hands the database over",
        )
    raise BacklineError(
        wording.said(found),
        hosts=[error.host for error in found],
        state="nothing was changed",
        hint=found[0].hint or "a host that is dead is out of the balancers already",
    )


def _require_balancers(errors: Mapping[str, HostError | None]) -> None:
    found = [error for error in errors.values() if error is not None]
    if found:
        raise BacklineError(
            wording.said(found),
            hosts=[error.host for error in found],
            state="nothing was changed: nobody could confirm that they send nothing new",
            hint=f"a balancer that is down anyway: --skip {','.join(e.host for e in found)}",
        )
