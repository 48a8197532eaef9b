"""The right to change an app, taken on every host of a run and renewed until the run ends.

Each host keeps its own lease and the highest token it ever saw (its fence). The token of a run is
higher than every host's fence, so a run that slept past its lease is refused by all of them. With
the lease each host gets its part of the plan: whoever takes over from us finds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backline import wording
from backline.errors import BacklineError, Exit
from backline.rollout.crew import Ask, Crew, Job, Pause
from backline.rollout.events import Event, Report
from backline.transport.port import Answer, Fleet, HostError, Outcome, Unreachable

LIFETIME = 60.0
RENEW_EVERY = 5.0
DEADLINE = 8.0
FENCED = ("stale_token", "lease_required", "lease_held")
UNFINISHED = "unfinished_run"


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

    @property
    def who(self) -> dict[str, Any]:
        """The fields of verbs that need no lease: they belong to no rollout."""
        return {"run": self.id, "actor": self.actor, "message": self.message}


class Lease:
    """The leases of a run.

    `parts`: what each host keeps of the plan (none when a run is resumed: it is there). `head`
    gives the end of our journal, sent with every change. `heard` is told what operators elsewhere
    want of this run, `silent` of a host that does not answer a renewal: whatever else it was asked,
    it will not answer that either. `seen` is told what a host has at the moment it grants the lease.
    """

    def __init__(
        self,
        fleet: Fleet,
        run: Run,
        report: Report,
        *,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
        replace: bool = False,
        head: Callable[[], Mapping[str, Any] | None] = lambda: None,
        heard: Callable[[Mapping[str, Any], bool], None] = lambda wanted, new: None,
        silent: Callable[[HostError], None] = lambda error: None,
        seen: Callable[[str, Answer], None] = lambda host, status: None,
    ) -> None:
        self.fleet = fleet
        self.run = run
        self.report = report
        self.parts = parts or {}
        self.replace = replace
        self.head = head
        self.heard = heard
        self.silent = silent
        self.seen = seen
        self.token = 0
        self.held: set[str] = set()
        self.lost: dict[str, HostError] = {}
        self.missed: set[str] = set()

    def fields(self) -> dict[str, Any]:
        """What every changing verb of this run carries."""
        head = self.head()
        return {**self.run.fields(self.token), **({"head": dict(head)} if head else {})}

    def take(self, crew: Crew, fences: Mapping[str, int]) -> dict[str, HostError]:
        """Takes the lease on every host whose fence is given; returns the hosts that did not answer.

        Raises BacklineError when another run holds it, or left work unfinished, on any host. Then,
        and when it is interrupted, what was taken is given back.
        """
        self.token = max(fences.values(), default=0) + 1
        ended = "refused" if self.parts else None
        try:
            outcomes = crew.run({host: self._take(host) for host in fences})
        except BaseException:
            self.give_back(crew, ended)
            raise
        errors = [outcome.error for outcome in outcomes.values() if outcome.error]
        refused = [error for error in errors if error.code in (*FENCED, UNFINISHED)]
        if refused:
            self.give_back(crew, ended)
            raise _refusal(refused)
        self.report(Event("lease", text=f"token {self.token} on {wording.hosts(len(self.held))}"))
        return {error.host: error for error in errors}

    def _take(self, host: str) -> Job:
        fields = {**self._asking("take"), "replace": self.replace}
        if host in self.parts:
            fields["plan"] = self.parts[host]
        self.held.add(host)  # before we know: it may have been taken although no answer came
        try:
            answer: Answer = yield self._ask(host, fields)
        except HostError as error:
            if error.code in (*FENCED, UNFINISHED):
                self.held.discard(host)
            else:
                self.missed.add(host)
            raise
        self.missed.discard(host)
        if answer.get("status"):
            self.seen(host, answer["status"])
        if answer.get("wanted"):
            self.heard(answer["wanted"], False)

    def again(self, host: str) -> Job:
        """Asks once more for a lease that a host did not answer for when it was to be taken."""
        if host in self.missed:
            yield from self._take(host)

    def keep(self, host: str) -> Job:
        """A background job: renews the lease of one host, on its own, until the run ends."""
        while host not in self.lost:
            yield Pause(RENEW_EVERY)
            if host in self.missed:
                continue
            try:
                answer: Answer = yield self._ask(host, self._asking("renew"))
            except HostError as error:
                if error.code == "stale_token":  # somebody took over: hands off, everywhere
                    self.lost = {**dict.fromkeys(self.held, error), **self.lost}
                elif error.code in FENCED and host in self.held:
                    self.lost[host] = error
                elif isinstance(error, Unreachable):
                    self.silent(error)
                continue
            if answer.get("wanted"):
                self.heard(answer["wanted"], True)

    def give_back(self, crew: Crew, ended: str | None) -> None:
        """Gives back what we hold. With `ended` (new, old, mixed) the run is over for these hosts;
        without, it can be resumed. A host that does not answer lets its lease run out by itself."""
        held, self.held = sorted(self.held), set()
        fields = self._asking("release")
        if ended:
            fields["ended"] = ended
        outcomes: Mapping[str, Outcome[Answer]] = crew.run(
            {host: _one(self._ask(host, fields)) for host in held if host not in self.lost}
        )
        for host, outcome in outcomes.items():
            if outcome.error is not None and outcome.error.code not in FENCED:
                text = (
                    f"lease not given back ({outcome.error.message}); it ends in {LIFETIME:.0f} s"
                )
                self.report(Event("warning", host=host, text=text))

    def _asking(self, action: str) -> dict[str, Any]:
        fields = {**self.fields(), "action": action}
        if action in ("take", "renew"):
            fields |= {"holder": self.run.actor, "lifetime": int(LIFETIME)}
        return fields

    def _ask(self, host: str, fields: Mapping[str, Any]) -> Ask:
        return Ask(
            host, lambda: self.fleet.call(host, "lease", fields, deadline=DEADLINE), DEADLINE
        )


def _one(ask: Ask) -> Job:
    return (yield ask)


def _refusal(errors: list[HostError]) -> BacklineError:
    held = [error for error in errors if error.code == "lease_held"]
    if held:
        return held_by(held)
    unfinished = [error for error in errors if error.code == UNFINISHED]
    if unfinished:
        return unfinished_by(unfinished)
    return BacklineError(
        wording.said(errors),
        hosts=[error.host for error in errors],
        state="no lease was kept, nothing was changed",
        hint="another run began at the same moment: look at `fab status`, then try again",
        exit_code=Exit.LEASE_HELD,
    )


def held_by(errors: Iterable[HostError]) -> BacklineError:
    """The refusal while another run works on the same app."""
    errors = list(errors)
    details = errors[0].details
    expires = float(details.get("expires_in") or LIFETIME)
    return BacklineError(
        f"{details.get('holder') or 'somebody'} is working on this app (run {details.get('run')})",
        hosts=[error.host for error in errors],
        state="nothing was changed",
        hint=f"wait for it; if that run is dead, its lease ends in {expires:.0f} s",
        exit_code=Exit.LEASE_HELD,
    )


def let_nobody_work(statuses: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `held_by` while somebody's run is under way: nobody can say yet what it leaves behind."""
    held = {host: status["lease"] for host, status in statuses.items() if status.get("lease")}
    if held:
        raise held_by(HostError(host, "leased", details=lease) for host, lease in held.items())


def unfinished_by(errors: Iterable[HostError]) -> BacklineError:
    """The refusal while an earlier run was neither completed nor taken back."""
    errors = list(errors)
    run = errors[0].details.get("run")
    return BacklineError(
        f"run {run} was interrupted and is not finished",
        hosts=[error.host for error in errors],
        state="nothing was changed",
        hint=f"fab deploy.resume --run {run} goes on with it, fab deploy.abort --run {run} goes "
        "back; --takeover gives it up and lets this run take its place",
        exit_code=Exit.GUARD_REFUSED,
    )
