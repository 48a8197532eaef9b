"""Dead letters: what they say, and that none is lost on its way back, whatever breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from backline.hostctl import celery_program as program

DIED = {"queue": "plays", "reason": "rejected", "count": 1, "time": datetime(2026, 11, 22, 19, 5)}
WANTED = {"limit": 100, "most": 100, "seconds": 60}


@dataclass
class Message:
    """A message as kombu has it."""

    headers: dict[str, Any]
    properties: dict[str, Any] = field(default_factory=dict)
    body: bytes = b"[[1], {}, {}]"


class FakeBox:
    """A broker: `dead` and other queues. `breaks`: what raises, and at the how-manieth call."""

    def __init__(self, *messages: Message) -> None:
        self.dead = list(messages)
        self.queues: dict[str, list[Message]] = {}
        self.taken: list[Message] = []
        self.breaks: tuple[str, int] = ("", 0)
        self.calls = 0

    def count(self) -> int:
        return len(self.dead)

    def take(self) -> Message | None:
        left = [message for message in self.dead if message not in self.taken]
        if not left:
            return None
        self.taken.append(left[0])
        return left[0]

    def send(self, message: Message, queue: str, headers: Mapping[str, Any]) -> None:
        self._break("send")
        copy = Message(dict(headers), message.properties, message.body)
        self.queues.setdefault(queue, []).append(copy)
        self._break("sent")

    def drop(self, message: Message) -> None:
        self._break("drop")
        self.dead.remove(message)

    def _break(self, what: str) -> None:
        if self.breaks[0] == what:
            self.calls += 1
            if self.calls == self.breaks[1]:
                raise ConnectionError("broker gone")

    def everywhere(self) -> list[str]:
        """The IDs of all jobs, wherever they are."""
        queued = [m for messages in self.queues.values() for m in messages]
        return [message.headers["id"] for message in (*self.dead, *queued)]


def message(number: int, task: str = "music.record_play", **headers: Any) -> Message:
    base = {"task": task, "id": f"job{number}", "retries": 14, "x-death": [dict(DIED)]}
    return Message({**base, **headers})


def test_a_letter_says_what_why_and_when_without_its_arguments() -> None:
    found = program.letter({**message(1).headers, "argsrepr": "('ada', 's3cret')"}, {}, 20)
    assert (found["task"], found["id"], found["queue"]) == ("music.record_play", "job1", "plays")
    assert (found["why"], found["count"], found["retries"]) == ("rejected", 1, 14)
    assert found["at"] == datetime(2026, 11, 22, 19, 5, tzinfo=UTC).timestamp()
    assert "s3cret" not in str(found)


def test_a_letter_of_an_unknown_sender_is_told_too() -> None:
    found = program.letter({}, {"correlation_id": "c1"}, 0)
    assert (found["id"], found["queue"], found["at"], found["count"]) == ("c1", None, None, 0)


def test_looking_takes_nothing() -> None:
    box = FakeBox(message(1), message(2, "music.other"))
    answer = program.look(box, {**WANTED, "task": "music.rec*"})
    assert (answer["there"], answer["seen"]) == (2, 2)
    assert [found["id"] for found in answer["letters"]] == ["job1"]
    assert box.everywhere() == ["job1", "job2"] and not box.queues


def test_letters_go_back_to_where_they_come_from_with_all_their_tries() -> None:
    other = message(2)
    other.headers["x-death"] = [{**DIED, "queue": "mail"}]
    box = FakeBox(message(1), other)
    answer = program.requeue(box, WANTED, now=0.0)
    assert (answer["moved"], answer["over"], box.dead) == (2, True, [])
    assert [list(box.queues), box.queues["plays"][0].headers["id"]] == [["plays", "mail"], "job1"]
    headers = box.queues["plays"][0].headers
    assert headers["retries"] == 0 and "x-death" not in headers
    assert headers[program.ROUND] == 1
    assert program.fresh(headers)[program.ROUND] == 2
    assert box.queues["plays"][0].body == message(1).body


@pytest.mark.parametrize("breaks", [(what, n) for what in ("send", "sent", "drop") for n in (1, 2)])
def test_no_letter_is_lost_whatever_breaks(breaks: tuple[str, int]) -> None:
    box = FakeBox(message(1), message(2), message(3))
    box.breaks = breaks
    try:
        answer = program.requeue(box, WANTED, now=0.0)
        assert answer["over"] is False and "broker gone" in answer["trouble"]
    except ConnectionError:
        assert breaks[0] == "drop", "what was confirmed and is still here is a double, not a loss"
    assert set(box.everywhere()) == {"job1", "job2", "job3"}
    assert len(box.everywhere()) <= 4


@pytest.mark.parametrize(
    ("wanted", "moved"),
    [
        ({"ids": ["job2", "job9"]}, ["job2"]),
        ({"task": "music.other"}, ["job3"]),
        ({"task": "music.*", "most": 2}, ["job1", "job2"]),
        ({"origin": "mail"}, []),
        ({"most": 0}, []),
    ],
)
def test_only_those_that_were_meant_are_moved(wanted: dict[str, Any], moved: list[str]) -> None:
    box = FakeBox(message(1), message(2), message(3, "music.other"))
    program.requeue(box, {**WANTED, **wanted}, now=0.0)
    sent = [m.headers["id"] for messages in box.queues.values() for m in messages]
    assert sent == moved and set(box.everywhere()) == {"job1", "job2", "job3"}


def test_a_job_past_its_time_stays_because_a_worker_would_drop_it() -> None:
    late = message(1, expires="2026-11-22T19:00:00+00:00")
    later = message(2, expires="2026-11-22T21:00:00")
    box = FakeBox(late, later)
    now = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
    answer = program.requeue(box, WANTED, now)
    assert [found["id"] for found in answer["kept"]] == ["job1"]
    assert box.dead == [late] and answer["moved"] == 1


def test_letters_that_stay_are_counted_though_not_all_are_told() -> None:
    late = [message(n, expires="2026-11-22T19:00:00+00:00") for n in range(program.SHOWN + 3)]
    now = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
    answer = program.requeue(FakeBox(*late), {**WANTED, "limit": 1000}, now)
    assert (len(answer["kept"]), answer["held"]) == (program.SHOWN, program.SHOWN + 3)


def test_a_letter_without_a_way_back_stays_unless_one_is_named() -> None:
    lost = Message({"id": "job1", "task": "t"})
    box = FakeBox(lost)
    assert "does not say" in program.requeue(box, WANTED, 0.0)["kept"][0]["kept"]
    box.taken.clear()
    assert program.requeue(box, {**WANTED, "to": "plays"}, 0.0)["moved"] == 1


def test_it_ends_in_time_and_says_that_there_is_more() -> None:
    box = FakeBox(*(message(n) for n in range(10)))
    moments = iter(range(0, 1000, 20))
    answer = program.requeue(box, WANTED, 0.0, clock=lambda: next(moments))
    assert answer["over"] is False and answer["moved"] == 2 and len(box.dead) == 8
