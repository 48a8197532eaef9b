"""A planned switchover that costs clients a pause and no error, seen from the controller.

hold the proxies → hand over (the leader's host does that alone) → shift new connections → wait until
old ones have ended → release the proxies → PgBouncer comes home. What is begun has an end on the hosts
themselves: the controller may die at any line. docs/decisions/0013-a-switchover-that-nobody-notices.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backline.errors import BacklineError, Exit
from backline.operations.database import look
from backline.operations.database.judge import Plan
from backline.transport.port import Answer, Clock, Fleet, HostError, Outcome, Unreachable

CALL = 20.0
HAND_OVER = 75.0
FOUND_WITHIN = 45.0
LOOK_EVERY = 2.0
MARGIN = 90.0
"""Seconds that hosts wait beyond what we need before they undo things by themselves."""

Report = Callable[[str, str, Mapping[str, Any]], None]
"""Told of each step: its name, a sentence, data."""


@dataclass
class Ended:
    """What came of it. `seconds` is the leader's own count: how long clients waited, and for what."""

    leader: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    cut: int = 0
    warnings: list[str] = field(default_factory=list)


class Switchover:
    """Carries out one plan. `who` goes to every host: run, actor, message."""

    def __init__(
        self, fleet: Fleet, plan: Plan, clock: Clock, report: Report, who: Mapping[str, Any]
    ) -> None:
        self.fleet, self.plan, self.clock, self.report, self.who = fleet, plan, clock, report, who
        self.database_hosts: tuple[str, ...] = ()
        self.held: tuple[str, ...] = plan.proxies
        """App hosts whose proxies are ours to release, or may be."""

    def carry_out(self, database_hosts: Iterable[str]) -> Ended:
        """Hands over. Raises BacklineError saying who leads, and what is held until when."""
        self.database_hosts = tuple(database_hosts)
        self._hold()
        try:
            ended = self._hand_over()
        except BacklineError:
            self._let_go()
            raise
        except KeyboardInterrupt:
            # To let go now would cut off those who wait.
            raise self._interrupted("the leader's host hands over by itself") from None
        try:
            self._shift(ended)
            self._linger(ended)
        except KeyboardInterrupt:
            raise self._interrupted(f"{ended.leader} leads") from None
        stayed = self._let_go()
        ended.warnings += stayed or self._home()
        return ended

    def _hold(self) -> None:
        fields = {
            "leader": self.plan.leader,
            "candidate": self.plan.candidate,
            "seconds": self.plan.linger + MARGIN,
        }
        try:
            outcomes = self._each("hold", fields)
        except KeyboardInterrupt:
            self._let_go()
            raise self._interrupted(f"{self.plan.leader} leads") from None
        self.held = tuple(host for host, outcome in outcomes.items() if _ours(outcome))
        failed = _failed(outcomes)
        if not failed:
            self._tell("hold", f"{len(self.plan.proxies)} proxies keep their connections")
            return
        self._let_go()
        first = next(iter(failed.values()))
        raise BacklineError(
            f"proxies that cannot be held: {'; '.join(map(str, failed.values()))}",
            hosts=failed,
            state=f"nothing was handed over: {self.plan.leader} leads, what this run held is released",
            hint=_hint(first),
            exit_code=Exit.GUARD_REFUSED if first.exit_code == Exit.GUARD_REFUSED else Exit.ERROR,
        )

    def _hand_over(self) -> Ended:
        plan = self.plan
        self._tell("pause", f"{plan.leader} hands over to {plan.candidate}")
        fields = {
            "action": "switchover",
            "candidate": plan.candidate,
            "within": plan.patience,
            "linger": plan.linger + MARGIN + 30,
        }
        try:
            answer = self._call(plan.leader_host, "database", fields, HAND_OVER)
        except Unreachable as error:
            return self._found_out(error)
        except HostError as error:
            state = "proxies are released; `fab db.status` shows who leads"
            raise error.for_people(state) from None
        ended = Ended(str(answer["leader"]), answer["seconds"])
        if ended.leader != plan.candidate:
            ended.warnings.append(f"{ended.leader} leads, not {plan.candidate}: Patroni chose it")
        waited = float(ended.seconds["waited"])
        self._tell("lead", f"{ended.leader} leads; clients waited {waited:.1f} s", ended.seconds)
        return ended

    def _found_out(self, error: Unreachable) -> Ended:
        """The leader's host went silent: what came of it is known to the others."""
        deadline = self.clock.monotonic() + FOUND_WITHIN
        said = "no member answers"
        while self.clock.monotonic() < deadline:
            try:
                view = look.collect(self.fleet, self.database_hosts)
            except BacklineError as silent:
                said = silent.message
            else:
                if view.leader and view.leader != self.plan.leader:
                    self._tell("lead", f"{view.leader} leads; its old host does not answer")
                    warning = f"{error}: how long clients waited is not known"
                    return Ended(view.leader, warnings=[warning])
                said = f"{view.leader} leads" if view.leader else "nobody leads"
            self.clock.sleep(LOOK_EVERY)
        raise BacklineError(
            f"the host that was handing over does not answer: {error.message}",
            hosts=[self.plan.leader_host],
            state=f"{said}; proxies are released; clients that wait there go on by themselves",
            hint="fab db.status",
        )

    def _shift(self, ended: Ended) -> None:
        failed = _failed(self._each("shift", {"leader": ended.leader}))
        ended.warnings += [f"{error}: old connections there may end" for error in failed.values()]
        self._tell("shift", f"new connections go to {ended.leader}")

    def _linger(self, ended: Ended) -> None:
        """Wait for old connections to end by themselves: pools renew theirs."""
        deadline = self.clock.monotonic() + self.plan.linger
        left = self._left()
        while left and self.clock.monotonic() < deadline:
            self._tell("linger", f"{left} connections still lead there", {"connections": left})
            self.clock.sleep(LOOK_EVERY)
            left = self._left()
        ended.cut = left
        if left:
            ended.warnings.append(
                f"{left} connections did not end within {self.plan.linger:g} s and are cut off: "
                "their clients see one error and connect anew"
            )

    def _left(self) -> int:
        """Connections on servers that are held. A host that does not answer counts as none."""
        answers = self._answers("status", {})
        return sum(
            int(server["sessions"])
            for answer in answers.values()
            for server in answer["servers"]
            if server["held"]
        )

    def _let_go(self) -> list[str]:
        failed = _failed(self._each("release", {}, self.held))
        if self.held and not failed:
            self._tell("release", "what this run held is released")
        return [
            f"{error}: its proxy lets go by itself, and PgBouncer on {self.plan.leader_host} comes home "
            "by itself after that"
            for error in failed.values()
        ]

    def _home(self) -> list[str]:
        """Only when all proxies are released: connections that are left would come to a standby."""
        try:
            self._call(self.plan.leader_host, "database", {"action": "home"}, CALL)
        except HostError as error:
            return [f"{error}: its PgBouncer comes home by itself"]
        self._tell("home", f"PgBouncer on {self.plan.leader_host} is back with its own PostgreSQL")
        return []

    def _answers(self, action: str, fields: Mapping[str, Any]) -> dict[str, Answer]:
        outcomes = self._each(action, fields)
        return {host: o.value for host, o in outcomes.items() if o.value is not None}

    def _each(
        self, action: str, fields: Mapping[str, Any], hosts: Iterable[str] | None = None
    ) -> Mapping[str, Outcome[Answer]]:
        """Does it on all app hosts at once, or on those of `hosts`."""

        def work(host: str) -> Answer:
            return self._call(host, "proxy", {"action": action, **fields}, CALL)

        chosen = self.plan.proxies if hosts is None else hosts
        return self.fleet.each(chosen, work, deadline=CALL + 5)

    def _call(self, host: str, verb: str, fields: Mapping[str, Any], deadline: float) -> Answer:
        return self.fleet.call(host, verb, {**self.who, **fields}, deadline=deadline)

    def _tell(self, step: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        self.report(step, text, data or {})

    def _interrupted(self, state: str) -> BacklineError:
        return BacklineError(
            "interrupted",
            state=f"{state}; proxies and PgBouncer undo what is held by themselves within "
            f"{self.plan.linger + MARGIN + 30:.0f} s",
            hint="fab db.status",
            exit_code=Exit.INTERRUPTED,
        )


def _failed(outcomes: Mapping[str, Outcome[Answer]]) -> dict[str, HostError]:
    return {host: o.error for host, o in outcomes.items() if o.error is not None}


def _ours(outcome: Outcome[Answer]) -> bool:
    """Whether a hold is ours, or may be: one that was there before or is refused is not."""
    if outcome.value is not None:
        return not outcome.value["already"]
    return outcome.error is not None and outcome.error.exit_code != Exit.GUARD_REFUSED


def _hint(error: HostError) -> str:
    if error.code in ("unknown_verb", "unknown_field"):
        return f"hostctl there is older than this checkout: fab provision --on {error.host} --tags hostctl"
    return error.hint or "an app host that is down anyway: --skip HOST"
