"""Jobs that somebody has to decide about: dead letters, and one that is not to be done.

Any host that runs the application's pools can ask: the first one that answers does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.transport.port import Answer, Fleet, HostError

SLACK = 45.0
"""Seconds an application gets to start, beside what it was asked to wait."""
ROUND_SECONDS = 60.0
MOST = 10_000
KNOWN_BY_ID = 500


@dataclass(frozen=True)
class Wish:
    """Which letters are meant. `task` may end in a star; `limit`: of so many, the oldest, at most."""

    queue: str = "dead"
    task: str = ""
    jobs: tuple[str, ...] = ()
    origin: str = ""
    to: str = ""
    limit: int = 1000

    def fields(self) -> dict[str, Any]:
        """What hostctl is told of it."""
        found = {"queue": self.queue, "task": self.task, "origin": self.origin, "to": self.to}
        given = {key: value for key, value in found.items() if value}
        return {**given, "limit": self.limit, **({"ids": list(self.jobs)} if self.jobs else {})}


@dataclass(frozen=True)
class Letters:
    """`letters` are those that fit among the first `seen` of the `there` in the queue."""

    there: int
    seen: int
    letters: tuple[Mapping[str, Any], ...]

    def kinds(self) -> list[tuple[str, str, str, int]]:
        """(task, queue, why, how many), the most frequent first."""
        found = Counter(
            (str(letter["task"]), str(letter["queue"]), str(letter["why"]))
            for letter in self.letters
        )
        return [(*kind, count) for kind, count in found.most_common()]


@dataclass
class Moved:
    """What came of it. `kept`: letters that stay, each with the reason; the first of the `held` ones."""

    moved: int = 0
    letters: list[Mapping[str, Any]] = field(default_factory=list)
    kept: list[Mapping[str, Any]] = field(default_factory=list)
    held: int = 0


class Asker:
    """Asks the application's broker through one of `hosts`, and stays with the one that answered."""

    def __init__(
        self, fleet: Fleet, app: str, hosts: Iterable[str], who: Mapping[str, Any]
    ) -> None:
        self.fleet = fleet
        self.app = app
        self.hosts = list(hosts)
        self.who = who

    def ask(self, fields: Mapping[str, Any], seconds: float) -> Answer:
        """The first answer. Raises BacklineError when no host has one."""
        errors: list[HostError] = []
        whole = {**self.who, "app": self.app, **fields}
        for host in list(self.hosts):
            try:
                answer = self.fleet.call(host, "jobs", whole, deadline=seconds + SLACK)
            except HostError as error:
                if error.exit_code == 2:
                    raise _none([error]) from None
                errors.append(error)
                self.hosts.remove(host)
                continue
            return answer
        raise _none(errors)

    def dead(self, wish: Wish) -> Letters:
        """The letters, which stay where they are."""
        answer = self.ask({**wish.fields(), "action": "dead"}, ROUND_SECONDS)
        return Letters(answer["there"], answer["seen"], tuple(answer["letters"]))

    def requeue(self, wish: Wish, letters: Letters, told: Callable[[int], None]) -> Moved:
        """Sends these letters round again; `told` hears how many went so far.

        Raises BacklineError when the broker refuses one. None is lost whatever happens.
        """
        result, most = Moved(), len(letters.letters)
        ids = [letter["id"] for letter in letters.letters]
        known = len(ids) <= KNOWN_BY_ID and all(ids)
        fields = {**wish.fields(), **({"ids": ids} if known else {}), "action": "requeue"}
        fields["limit"] = MOST if known else wish.limit
        while True:
            asked = {**fields, "most": most - result.moved, "seconds": ROUND_SECONDS}
            answer = self.ask(asked, ROUND_SECONDS)
            result.moved += answer["moved"]
            result.letters += answer["letters"]
            result.kept = answer["kept"]
            result.held = answer.get("held", len(result.kept))  # an older hostctl does not count
            told(result.moved)
            if answer["trouble"]:
                raise BacklineError(
                    f"the broker did not take a letter: {answer['trouble']}",
                    state=f"{result.moved} of {most} were moved; the others are still in "
                    f"{wish.queue}, none is lost",
                    hint="fab broker.status; the same command again goes on",
                )
            if answer["over"] or not answer["moved"]:
                return result

    def revoke(self, job: str, terminate: bool, dry: bool) -> Answer:
        """Who has a job, {found, confirmed}; unless `dry` every worker is told to leave it undone."""
        fields = {"ids": [job], "terminate": terminate, "dry": dry, "patience": 3.0}
        return self.ask({**fields, "action": "revoke"}, 12.0)


def _none(errors: list[HostError]) -> BacklineError:
    return BacklineError(
        wording.said(errors) or "the inventory has no group worker",
        hosts=[error.host for error in errors],
        state="no letter is lost; what was not confirmed stays where it was",
        hint=errors[0].hint if errors else "",
    )
